"""Where images are, as people write it: in a registry, or in a file, a directory or a daemon of this machine.

    [docker://]REGISTRY/REPOSITORY[:TAG][@DIGEST]
    oci:DIR[:REF][@DIGEST]              an OCI image layout
    oci-archive:FILE[:REF][@DIGEST]     one in a tar file
    docker-archive:FILE[:REF][@DIGEST]  what docker save writes
    docker-daemon:REF                   what docker has

These are skopeo's words. The first colon after the word ends the path, so a path has none, and REF may be a whole
reference. A registry that is called like one of these words is named with ``docker://`` before it.
"""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import msgspec

from asyncrane.errors import InvalidReference
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Reference, Repository, is_bare_registry

Kind: TypeAlias = Literal["registry", "oci", "oci-archive", "docker-archive", "docker-daemon"]

_FILES: dict[str, tuple[str, str, str]] = {
    "oci": ("DIR", "asyncrane.stores.layout", "open_layout"),
    "oci-archive": ("FILE", "asyncrane.stores.ociarchive", "open_oci_archive"),
    "docker-archive": ("FILE", "asyncrane.stores.tarball", "open_archive"),
}
_DAEMON = ("asyncrane.stores.daemon", "open_daemon")
_DIGEST = re.compile(r"@(sha256:[^@/]*|sha512:[^@/]*)\Z")
_REF = re.compile(r"[^\s\x00-\x1f\x7f]{1,1024}")


class Location(msgspec.Struct, frozen=True):
    """One image, or one repository, and where it is. ``path`` is a file's, directory's or, in a registry, the
    repository's name, and with a daemon the whole reference. ``tag`` is ``None`` where none was given, and in a file
    may be any name.
    """

    kind: Kind
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def repository(self) -> Repository:
        """The repository, of what is in a registry.

        :raises InvalidReference: when it is elsewhere
        """
        if self.kind != "registry":
            raise InvalidReference(f"{self} is not in a registry")
        registry, _, path = self.path.partition("/")
        return Repository(registry, path)

    @property
    def identifier(self) -> str:
        """What to ask for: the digest if there is one, else the tag; empty where only one image can be meant."""
        return str(self.digest or self.tag or "")

    def at(self, digest: Digest) -> Location:
        """The manifest or blob with ``digest`` here."""
        return Location(self.kind, self.path, None, digest)

    def named(self, tag: str) -> Location:
        """The image ``tag`` here."""
        return Location(self.kind, self.path, tag)

    def __str__(self) -> str:
        word = "" if self.kind == "registry" else f"{self.kind}:"
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest!s}" if self.digest else ""
        return f"{word}{self.path}{tag}{digest}"


def parse_location(text: str) -> Location:
    """Read where an image is.

    :raises InvalidReference: when it is nothing of the kind
    """
    kind, rest = _word(text)
    if kind in _FILES:
        return _file(kind, rest, text)
    if kind == "docker-daemon":
        if not rest:
            raise InvalidReference(f"not an image: {text!r} (expected docker-daemon:REF)")
        return Location(kind, rest)
    reference = Reference.parse(rest)
    return Location("registry", str(reference.repository), reference.tag, reference.digest)


def parse_repository(text: str) -> Location:
    """Read where a repository is: in a registry, or everything that is in a file or directory.

    :raises InvalidReference: when it is nothing of the kind, or names an image
    """
    kind, rest = _word(text)
    if kind != "registry":
        found = parse_location(text)
        if found.kind == "docker-daemon" or found.identifier:
            raise InvalidReference(f"{text!r} names one image, where all in a repository or directory are meant")
        return found
    return Location("registry", str(Repository.parse(rest)))


def refuse_registry(text: str) -> None:
    """Refuse a registry without a repository, which crane takes for a Docker Hub name.

    :raises InvalidReference: when ``text`` is one
    """
    kind, rest = _word(text)
    if kind == "registry" and is_bare_registry(rest):
        raise InvalidReference(f"{text!r} is a registry without a repository (expected {rest.rstrip('/')}/NAME)")


def open_location(location: Location, *, writing: bool) -> AbstractAsyncContextManager[Any]:
    """What is at ``location``, in a file, directory or daemon: a Source, with ``writing`` a Sink, that is complete when
    the context ends without an error.

    :raises InvalidReference: when it is in a registry
    """
    if location.kind == "registry":
        raise InvalidReference(f"{location} is in a registry")
    module, opener = _DAEMON if location.kind == "docker-daemon" else _FILES[location.kind][1:]
    opened = getattr(import_module(module), opener)(location.path, writing=writing)
    return cast("AbstractAsyncContextManager[Any]", opened)


def _word(text: str) -> tuple[Kind, str]:
    if text.startswith("docker://"):
        return "registry", text.removeprefix("docker://")
    word, colon, rest = text.partition(":")
    if colon and (word in _FILES or word == "docker-daemon"):
        return cast("Kind", word), rest
    return "registry", text


def _file(kind: Kind, rest: str, text: str) -> Location:
    place = _FILES[kind][0]
    digest = None
    if (match := _DIGEST.search(rest)) is not None:
        digest = Digest.parse(match[1])
        rest = rest[: match.start()]
    path, colon, tag = rest.partition(":")
    if not path or (colon and not _REF.fullmatch(tag)):
        raise InvalidReference(f"not an image: {text!r} (expected {kind}:{place}[:REF][@DIGEST])")
    return Location(kind, path if path == "-" else str(Path(path)), tag or None, digest)
