"""Lists that mirror files refer to: of repositories, and of images, from texts, lock files and manifests (G3).

A text has one name a line; ``#`` starts a comment. Everything else is YAML or JSON, of which every ``image`` counts
wherever it is (Kubernetes, Compose, imgpkg's lock files), ``image: {registry, repository, tag, digest}`` (values of
helm charts), ``images`` that are a list of texts, and a list of texts that is the whole file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asyncrane.errors import InvalidInput, InvalidMirrorSpec
from asyncrane.mirror.tree import Fields, Items, Limits, Node, Scalar, parse_all, read_text, shown
from asyncrane.oci.reference import Reference, Repository

_LARGE = Limits(size=16 * 1024 * 1024, values=1_000_000)


def read_images(path: Path) -> tuple[Reference, ...]:
    """The images in a file, each once, in the order of the file.

    :raises InvalidMirrorSpec: when it cannot be read, an image is none, or there is none
    """
    text = read_text(path, _LARGE)
    found = dict.fromkeys(_from_lines(text, path) if _is_lines(text) else _from_documents(text, path))
    if not found:
        raise InvalidMirrorSpec(f"{path}: no image in it")
    return tuple(found)


def read_repositories(path: Path, registry: str | None) -> tuple[str, tuple[str, ...]]:
    """The registry and the paths of the repositories in a file, one a line; without ``registry`` each line names it.

    :raises InvalidMirrorSpec: when it cannot be read, a line is no repository, or names another registry
    """
    found: dict[str, None] = {}
    common = registry
    for place, name in _lines(read_text(path, _LARGE), path):
        try:
            repository = Repository.parse(f"{registry}/{name}" if registry is not None else name)
        except InvalidInput as exc:
            raise InvalidMirrorSpec(f"{place}: {exc}") from exc
        common = common or repository.registry
        if repository.registry != common:
            raise InvalidMirrorSpec(f"{place}: {repository.registry} after {common}: a file of names has one registry")
        found[repository.path] = None
    if common is None or not found:
        raise InvalidMirrorSpec(f"{path}: no repository in it")
    return common, tuple(found)


def _lines(text: str, path: Path) -> Iterator[tuple[str, str]]:
    """Place and content of every line that has some."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
        if comment > 1:
            raise InvalidMirrorSpec(f"{path}:{number}:1: {shown(line.strip())}: expected one name a line")
        if comment:
            yield f"{path}:{number}:{line.index(words[0]) + 1}", words[0]


def _is_lines(text: str) -> bool:
    """Whether the first line that is no comment is a name, and not YAML or JSON."""
    for line in text.splitlines():
        words = line.partition(" #")[0].split()
        if words and not words[0].startswith("#"):
            return words[0][0] not in "{[\"'%-" and words[0][-1] not in ":,"
    return True


def _from_lines(text: str, path: Path) -> Iterator[Reference]:
    for place, name in _lines(text, path):
        try:
            yield Reference.parse(name)
        except InvalidInput as exc:
            raise InvalidMirrorSpec(f"{place}: {exc}") from exc


def _from_documents(text: str, path: Path) -> Iterator[Reference]:
    for document in parse_all(text, str(path), _LARGE):
        if isinstance(document, Items):
            yield from _texts(document)
        stack: list[Node] = [document]
        while stack:
            node = stack.pop()
            if isinstance(node, Items):
                stack += reversed(node.items)
            elif isinstance(node, Fields):
                yield from _from_fields(node)
                stack += reversed(node.values.values())


def _from_fields(node: Fields) -> Iterator[Reference]:
    image, images = node.values.get("image"), node.values.get("images")
    if isinstance(image, Scalar):
        yield from _reference(image, image.text)
    elif isinstance(image, Fields) and (repository := _part(image, "repository")):
        registry, tag, digest = _part(image, "registry"), _part(image, "tag"), _part(image, "digest")
        name = (f"{registry}/" if registry else "") + repository
        yield from _reference(image, name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else ""))
    if isinstance(images, Items):
        yield from _texts(images)


def _texts(node: Items) -> Iterator[Reference]:
    for item in node.items:
        if isinstance(item, Scalar):
            yield from _reference(item, item.text)


def _part(node: Fields, name: str) -> str:
    value = node.values.get(name)
    return value.text if isinstance(value, Scalar) and not value.missing else ""


def _reference(node: Node, text: str) -> Iterator[Reference]:
    """The image, if a name is there at all: charts leave ``image: ""`` to be filled in."""
    if not text or (isinstance(node, Scalar) and node.missing):
        return
    try:
        yield Reference.parse(text)
    except InvalidInput as exc:
        raise node.error(str(exc)) from exc
