"""Where images go: ``registry-b:5000/copy/{path}:{tag}``, a template that is filled in for each image.

``{registry}``    the source's registry. As the whole first part it is the registry itself; in a path or a tag it is
                  written as these allow: ``registry-a:5000`` is ``registry-a-5000``, Docker Hub is ``docker.io``.
``{path}``        the source's repository, ``team/app``
``{name}``        its last part, ``app``
``{tag}``         the source's tag
``{digest}``      the hex digits of the digest by which the image was asked for: neither path nor tag may have a colon,
                  and a tag ``sha256-...`` is where referrers are kept (distribution-spec, "Referrers Tag Schema")
``{1}``, ``{x}``  what the groups of the source hold: of ``regex`` by number and name, the ``*`` and ``**`` of a glob by
                  number. In a path, slashes beside an empty group fall away.

Without a tag in the template the image keeps its own; ``@{digest}`` at the end means: no tag at all.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

import msgspec

from asyncrane.errors import InvalidMirrorSpec, InvalidReference
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import DOCKER_HUB, Repository, check_tag, parse_registry, refuse_user

BUILTIN = ("registry", "path", "name", "tag", "digest")
"""The placeholders that every image has a value for, if it has tag and digest."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_UNTAGGED = "@{digest}"
_SLASHES = re.compile("/{2,}")
_NEITHER = re.compile("[^a-z0-9._-]+")
_SAMPLE = Digest.of(b"")


class Template(msgspec.Struct, frozen=True):
    """A destination with placeholders; it prints as its text. ``tag`` is ``None`` where the text has none."""

    text: str
    registry: str
    path: str
    tag: str | None = None

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read ``registry/path[:tag]``. Docker Hub must be written out: nothing is pushed there by mistake.

        :raises InvalidMirrorSpec: when it can be no image, whatever the placeholders hold
        :raises InvalidReference: when it begins with a user and password
        """
        refuse_user(text)
        if any(brace in _PLACEHOLDER.sub("", text) for brace in "{}"):
            raise InvalidMirrorSpec(f"{text!r}: a brace without its partner")
        if "://" in text:
            raise InvalidMirrorSpec(f"{text!r}: leave out {text.partition('://')[0]}://")
        head, slash, rest = text.partition("/")
        if not slash or not rest:
            raise InvalidMirrorSpec(f"{text!r} names no repository (expected e.g. {head or 'HOST'}/{{path}})")
        if head != "{registry}":
            head = _registry(head, text)
        untagged = rest.endswith(_UNTAGGED)
        rest = rest.removesuffix(_UNTAGGED)
        if "@" in rest:
            raise InvalidMirrorSpec(f"{text!r}: an image's digest is always its own (only {_UNTAGGED}: without a tag)")
        path, colon, tag = rest.partition(":")
        if colon and not tag:
            raise InvalidMirrorSpec(f"{text!r}: nothing follows the colon")
        if untagged and colon:
            raise InvalidMirrorSpec(f"{text!r}: {_UNTAGGED} is for images without a tag")
        template = cls(text, head, path, tag if colon else "" if untagged else None)
        template._try()
        return template

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders in the order of the text."""
        return tuple(_PLACEHOLDER.findall(f"{self.registry}/{self.path}:{self.tag or ''}"))

    def check(self, *, groups: Collection[str], tag: bool, digest: bool) -> None:
        """See that every placeholder will have a value. ``tag`` and ``digest`` say whether the images have these.

        :raises InvalidMirrorSpec: when one will not
        """
        for name in self.names:
            if name not in BUILTIN and name not in groups:
                known = (*BUILTIN, *sorted(groups))
                near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
                there = ", ".join(f"{{{one}}}" for one in known)
                hint = f": did you mean {{{near[0]}}}?" if near else f" (there are {there})"
                raise InvalidMirrorSpec(f"{self.text!r}: there is no {{{name}}}{hint}")
            if name == "tag" and not tag:
                raise InvalidMirrorSpec(f"{self.text!r}: the image has no tag for {{tag}}")
            if name == "digest" and not digest:
                raise InvalidMirrorSpec(f"{self.text!r}: {{digest}} is for images that are named by digest")

    def expand(
        self, *, registry: str, path: str, tag: str | None, digest: Digest | None, groups: Mapping[str, str]
    ) -> tuple[Repository, str | None]:
        """The repository and the tag for one image; no tag: it goes there by digest only.

        :raises InvalidMirrorSpec: when a placeholder has no value, or the result is no valid name
        """
        try:
            return self._expand(registry, path, tag, digest, groups)
        except InvalidReference as exc:
            raise InvalidMirrorSpec(f"{self.text!r} for {registry}/{path}: {exc}") from exc

    def _expand(
        self, registry: str, path: str, tag: str | None, digest: Digest | None, groups: Mapping[str, str]
    ) -> tuple[Repository, str | None]:
        known = {
            **groups,
            "registry": written(registry),
            "path": path,
            "name": path.rpartition("/")[2],
            "tag": tag,
            "digest": digest.hex if digest is not None else None,
        }
        host = registry if self.registry == "{registry}" else self.registry
        where = _SLASHES.sub("/", self._fill(self.path, known)).strip("/")
        label = tag if self.tag is None else self._fill(self.tag, known)
        return Repository.parse(f"{host}/{where}"), check_tag(label or "") if label or self.tag else None

    def _fill(self, text: str, known: Mapping[str, str | None]) -> str:
        def value(found: re.Match[str]) -> str:
            held = known.get(found[1])
            if held is None:
                raise InvalidMirrorSpec(f"{self.text!r}: nothing is known for {found[0]}")
            return held

        return _PLACEHOLDER.sub(value, text)

    def _try(self) -> None:
        """Find out now what no image will change."""
        groups = {name: "x" for name in self.names if name not in BUILTIN}
        try:
            self._expand("registry.example", "x", "x", _SAMPLE, groups)
        except InvalidReference as exc:
            raise InvalidMirrorSpec(f"{self.text!r}: {exc}") from exc

    def __str__(self) -> str:
        return self.text


def written(registry: str) -> str:
    """A registry as a part of a path or of a tag: ``registry-a:5000`` is ``registry-a-5000``."""
    name = "docker.io" if registry == DOCKER_HUB else registry.lower()
    return _NEITHER.sub("-", name).strip("-._")


def _registry(head: str, text: str) -> str:
    if "{" in head:
        raise InvalidMirrorSpec(f"{text!r}: the registry must be written out, or be {{registry}}")
    if "." not in head and ":" not in head and head != "localhost":
        raise InvalidMirrorSpec(f"{text!r} names no registry (Docker Hub is docker.io/{text})")
    try:
        return parse_registry(head)
    except InvalidReference as exc:
        raise InvalidMirrorSpec(f"{text!r}: {exc}") from exc
