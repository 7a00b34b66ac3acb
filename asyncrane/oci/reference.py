"""Names of registries, repositories and images (distribution-spec, "Pulling manifests"; crane's ``pkg/name``).

The grammar is crane's where scripts depend on it (defaults, which first part is a host) and the specification's where
crane is looser (repository components, first character of a tag); ``tag@digest`` keeps both parts.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from asyncrane.errors import InvalidDigest, InvalidReference
from asyncrane.oci.digest import Digest

DOCKER_HUB = "index.docker.io"
_HUB_ALIASES = frozenset({"docker.io", DOCKER_HUB, "registry-1.docker.io", "registry.hub.docker.com"})
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_USER = re.compile(r"(?:[A-Za-z]+://)?[^:/@]+:[^/]*@(?!sha\d+:)(?=localhost|.*[./:])")
_LONGEST_NAME = 255


class Repository(msgspec.Struct, frozen=True, order=True):
    """A repository of a registry: ``registry`` is ``host[:port]``, ``path`` the name below it."""

    registry: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Read ``[registry/]path``; without a registry it is Docker Hub's.

        :raises InvalidReference: when it is not a repository name
        """
        registry, path = _split_host(text)
        _check_path(path, text)
        return cls(registry, path)

    def tag(self, tag: str) -> Reference:
        """The image named ``tag`` here."""
        return Reference(self, check_tag(tag), None)

    def at(self, digest: Digest) -> Reference:
        """The manifest or blob with ``digest`` here."""
        return Reference(self, None, digest)

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


class Reference(msgspec.Struct, frozen=True, order=True):
    """An image: a repository and a tag, a digest, or both (the digest decides the content, the tag the label)."""

    repository: Repository
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``repository[:tag][@digest]``; with neither the tag is ``latest``.

        :raises InvalidReference: when it is not an image reference
        """
        refuse_user(text)
        name, at, digest_text = text.partition("@")
        digest: Digest | None = None
        if at:
            try:
                digest = Digest.parse(digest_text)
            except InvalidDigest as exc:
                raise InvalidReference(f"not an image reference: {_short(text)}: {exc}") from exc
        head, colon, tag = name.rpartition(":")
        if colon and "/" not in tag:
            name = head
            if not _TAG.fullmatch(tag):
                raise InvalidReference(f"not an image reference: {_short(text)}: {_short(tag)} is not a tag")
        else:
            tag = ""
        repository = Repository.parse(name)
        if not tag and digest is None:
            tag = "latest"
        return cls(repository, tag or None, digest)

    @property
    def identifier(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest!s}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse_registry(text: str) -> str:
    """Read ``host[:port]`` of a registry, Docker Hub's aliases made one.

    :raises InvalidReference: when it is not a host, or a path follows it
    """
    refuse_user(text)
    if not _HOST.fullmatch(text) or not _port_fits(text):
        raise InvalidReference(f"not a registry: {_short(text)} (expected host[:port])")
    return DOCKER_HUB if text in _HUB_ALIASES else text


def check_tag(tag: str) -> str:
    """Return ``tag`` if it is one (distribution-spec, "Pulling manifests").

    :raises InvalidReference: when it is not
    """
    if not _TAG.fullmatch(tag):
        raise InvalidReference(f"not a tag: {_short(tag)}")
    return tag


def refuse_user(text: str) -> None:
    """Refuse ``user:password@host`` without repeating it: an error is read by more people than a password is for.

    :raises InvalidReference: when it begins so
    """
    if _USER.match(text):
        raise InvalidReference("not a name of a registry or an image: USER:PASSWORD@ is no part of it (use auth login)")


def is_bare_registry(text: str) -> bool:
    """Whether ``text`` names a registry and no repository: crane takes ``host:5000`` for a Docker Hub name."""
    name = text.rstrip("/")
    return "/" not in name and "@" not in name and (_is_host(name) or name.startswith("localhost:"))


def is_loopback_or_private(registry: str) -> bool:
    """Whether crane would try plain HTTP there: loopback names and addresses, ``*.local``, RFC 1918 addresses."""
    host = urlsplit(f"//{registry}").hostname or ""
    if host in ("localhost", "::1", "127.0.0.1") or host.endswith((".localhost", ".local")):
        return True
    parts = host.split(".")
    if len(parts) != 4 or not all(p.isdigit() and int(p) < 256 for p in parts):
        return False
    first, second = int(parts[0]), int(parts[1])
    return first in (10, 127) or (first == 172 and 16 <= second < 32) or (first == 192 and second == 168)


def _split_host(text: str) -> tuple[str, str]:
    refuse_user(text)
    scheme, found, _ = text.partition("://")
    if found:
        raise InvalidReference(f"not a repository: {_short(text)} (leave out {scheme}://)")
    head, slash, rest = text.partition("/")
    if slash and _is_host(head):
        registry = parse_registry(head)
    else:
        registry, rest = DOCKER_HUB, text
    if registry == DOCKER_HUB and "/" not in rest:
        rest = f"library/{rest}"
    return registry, rest


def _is_host(part: str) -> bool:
    return part == "localhost" or "." in part or ":" in part


def _port_fits(registry: str) -> bool:
    try:
        return urlsplit(f"//{registry}").port != 0
    except ValueError:
        return False


def _check_path(path: str, text: str) -> None:
    shown = path.removeprefix("library/")
    if not shown:
        raise InvalidReference(f"not a repository: {_short(text)} (no name)")
    if shown != shown.lower():
        raise InvalidReference(f"not a repository: {_short(text)} (names are lower-case)")
    if not _PATH.fullmatch(path):
        raise InvalidReference(
            f"not a repository: {_short(text)} (parts of a-z, 0-9, joined by '.', '_', '-', separated by '/')"
        )
    if len(path) > _LONGEST_NAME:
        raise InvalidReference(f"not a repository: {_short(text)} (longer than {_LONGEST_NAME} characters)")


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:117] + "...")
