"""``defaults`` and ``mirrors`` of a mirror file: what goes where."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from asyncrane.errors import InvalidInput
from asyncrane.mirror import keys
from asyncrane.mirror.images import read_images, read_repositories
from asyncrane.mirror.keys import Context
from asyncrane.mirror.quantities import parse_share, parse_since
from asyncrane.mirror.regexes import has_branches
from asyncrane.mirror.rename import BUILTIN, Template
from asyncrane.mirror.spec import Prune, Rule, SourcePattern, TagRule, compile_regex
from asyncrane.mirror.tree import Fields, Node, Scalar, shown
from asyncrane.mirror.versions import Range
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import DOCKER_HUB, Reference, is_bare_registry, parse_registry, refuse_user


def defaults(node: Node | None) -> Rule:
    """A rule that others start from. A key of an entry replaces the whole default of that name.

    :raises InvalidMirrorSpec: when something cannot be used, with its place
    """
    rule = Rule(line=0)
    return rule if node is None else _options(keys.fields(node, keys.DEFAULTS, "defaults"), rule)


def rules(node: Node, base: Rule, context: Context) -> list[Rule]:
    """The rules of one entry: one, or one for each image of a file.

    :raises InvalidMirrorSpec: when something cannot be used, with its place
    """
    entry = keys.fields(node, keys.ENTRY, "an entry of mirrors")
    subject = keys.only_one(entry, keys.SUBJECTS, "an entry of mirrors")
    value = entry.values[subject]
    templates = _templates(keys.needed(entry, "to", "an entry of mirrors"))
    rule = msgspec.structs.replace(
        _options(entry, base), line=entry.line, to=tuple(template for _, template in templates)
    )
    if subject == "from":
        source = _source(value, context)
        _check(templates, groups=_groups(value, source), tag=True, digest=False)
        return [msgspec.structs.replace(rule, source=source)]
    for name in ("tags", "prune"):
        if name in entry.keys:
            raise entry.keys[name].error(f"{name} is for entries with 'from': an image has its own tag")
    if subject == "image":
        images: tuple[Reference, ...] = (keys.read(value, keys.text(value), Reference.parse),)
    else:
        images = read_images(context.file(value))
    rule = msgspec.structs.replace(rule, tags=TagRule(), prune=Prune())
    return [_single(rule, image, templates) for image in images]


def _single(rule: Rule, image: Reference, templates: list[tuple[Node, Template]]) -> Rule:
    _check(templates, groups=(), tag=image.tag is not None, digest=image.digest is not None, image=str(image))
    for node, template in templates:
        try:
            template.expand(
                registry=image.repository.registry,
                path=image.repository.path,
                tag=image.tag,
                digest=image.digest,
                groups={},
            )
        except InvalidInput as exc:
            raise node.error(str(exc)) from exc
    return msgspec.structs.replace(rule, image=image)


def _templates(node: Node) -> list[tuple[Node, Template]]:
    found: dict[Template, Node] = {}
    nodes = keys.several(node)
    if not nodes:
        raise node.error("to: the list is empty")
    for one in nodes:
        text = keys.text(one)
        if is_bare_registry(text):
            raise one.error(f"{shown(text)} names no repository (expected e.g. {text.rstrip('/')}/{{path}})")
        template = keys.read(one, text, Template.parse)
        if template in found:
            raise one.error(f"{shown(text)} is there twice")
        found[template] = one
    return [(one, template) for template, one in found.items()]


def _check(
    templates: list[tuple[Node, Template]], *, groups: Collection[str], tag: bool, digest: bool, image: str = ""
) -> None:
    for node, template in templates:
        try:
            template.check(groups=groups, tag=tag, digest=digest)
        except InvalidInput as exc:
            raise node.error(f"{image}: {exc}" if image else str(exc)) from exc


def _source(node: Node, context: Context) -> SourcePattern:
    if isinstance(node, Fields):
        node.only(keys.SOURCE)
        way = keys.only_one(node, ("regex", "file"), "from")
        registry = None
        if "registry" in node.values:
            registry = keys.read(node.values["registry"], keys.text(node.values["registry"]), parse_registry)
        value = node.values[way]
        if way == "file":
            registry, names = read_repositories(context.file(value), registry)
            return SourcePattern(registry, names=names)
        return keys.read(value, keys.text(value), lambda text: _regex(text, registry))
    return keys.read(node, keys.text(node), _pattern)


def _pattern(text: str) -> SourcePattern:
    """``[registry/]glob``; without a registry it is Docker Hub's, as in references."""
    refuse_user(text)
    if is_bare_registry(text):
        raise InvalidInput(f"{shown(text)} is a registry: all its repositories are {text.rstrip('/')}/**")
    if "://" in text or "@" in text or ":" in text.rpartition("/")[2]:
        raise InvalidInput(f"{shown(text)}: expected repositories; 'tags' says which tags, 'image' is for one image")
    head, slash, rest = text.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry = parse_registry(head)
    else:
        registry, rest = DOCKER_HUB, text
    if registry == DOCKER_HUB and "/" not in rest and rest != "**":
        rest = f"library/{rest}"
    return SourcePattern(registry, rest)


def _regex(text: str, registry: str | None) -> SourcePattern:
    """A regular expression over paths, with the registry before it as it is (dots may have their backslashes)."""
    if registry is None:
        head, slash, text = text.removeprefix("^").partition("/")
        if not slash:
            raise InvalidInput(f"{shown(head)}: expected REGISTRY/REGEX, or 'registry' beside 'regex'")
        if has_branches(text):
            raise InvalidInput(f"{shown(text)}: with a | outside of parentheses 'registry' must be beside 'regex'")
        registry = parse_registry(head.replace("\\.", ".").replace("\\-", "-"))
    return SourcePattern(registry, regex=text)


def _groups(node: Node, source: SourcePattern) -> Collection[str]:
    groups = source.groups
    taken = sorted(groups.intersection(BUILTIN))
    if taken:
        place = node.values["regex"] if isinstance(node, Fields) else node
        raise place.error(f"the group {taken[0]!r} needs another name: {{{taken[0]}}} is the source's")
    return groups


def _options(entry: Fields, base: Rule) -> Rule:
    """``base`` with what ``entry`` says instead."""
    found: dict[str, Any] = {}
    for name, value in entry.values.items():
        match name:
            case "tags":
                found[name] = _tags(value)
            case "platforms":
                found[name] = _platforms(value)
            case "overwrite":
                found[name] = keys.choice(value, keys.OVERWRITE)
            case "referrers" | "nondistributable":
                found[name] = keys.boolean(value)
            case "prune":
                found[name] = _prune(value)
    return msgspec.structs.replace(base, **found)


def _tags(node: Node) -> TagRule:
    entry = keys.fields(node, keys.TAGS, "tags")
    found: dict[str, Any] = {}
    for name, value in entry.values.items():
        match name:
            case "include" | "exclude":
                found[name] = tuple(map(keys.label, keys.several(value)))
            case "regex":
                found[name] = _expression(value)
            case "semver":
                found[name] = _range(value)
            case "latest":
                found[name] = keys.count(value, least=1)
            case "sort":
                found[name] = keys.choice(value, keys.SORT)
            case "since":
                found[name] = keys.read(value, keys.text(value), parse_since)
            case _:
                found[name] = keys.boolean(value)
    if "latest" in found and "sort" not in found:
        raise entry.keys["latest"].error("latest by what? add sort: semver, sort: created or sort: name")
    if "sort" in found and "latest" not in found:
        raise entry.keys["sort"].error("sort has no effect without latest")
    return TagRule(**found)


def _expression(node: Node) -> str | None:
    text = keys.label(node, empty=True)
    keys.read(node, text, compile_regex)
    return text or None


def _range(node: Node) -> str | None:
    text = keys.label(node, empty=True)
    if text:
        keys.read(node, text, Range.parse)
    return text or None


def _platforms(node: Node) -> tuple[Platform, ...]:
    if isinstance(node, Scalar) and node.text == "all":
        return ()
    nodes = keys.several(node)
    if not nodes:
        raise node.error("platforms: the list is empty (all: every platform)")
    return tuple(dict.fromkeys(keys.read(one, keys.text(one), Platform.parse) for one in nodes))


def _prune(node: Node) -> Prune:
    entry = keys.fields(node, keys.PRUNE, "prune")
    found: dict[str, Any] = {}
    for name, value in entry.values.items():
        match name:
            case "enabled":
                found["enabled"] = keys.boolean(value)
            case "max":
                found["most"] = _most(value)
            case _:
                found["keep"] = tuple(map(keys.label, keys.several(value)))
    if found.get("enabled") and "most" not in found:
        raise entry.keys["enabled"].error("pruning needs max: how many tags of a repository may go, e.g. 10%")
    return Prune(**found)


def _most(node: Node) -> int | float:
    if isinstance(node, Scalar) and not node.number and node.text.endswith("%"):
        return keys.read(node, node.text, parse_share)
    if isinstance(node, Scalar) and not node.number:
        raise node.error(f"expected a whole number or a share, e.g. 10%, not {node.kind}")
    return keys.count(node, least=0)
