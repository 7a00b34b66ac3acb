"""The format of docker's ``config.json`` and podman's ``auth.json``: reading, and changing one entry of it.

(docker/cli ``cli/config/configfile``; containers-auth.json(5).) Keys are ``host[:port][/path]`` after normalising.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from asyncrane.auth.credentials import Credential, Secretive
from asyncrane.errors import CredentialError, InvalidReference
from asyncrane.oci.reference import DOCKER_HUB, parse_registry

_T = TypeVar("_T")

HUB_KEY = "https://index.docker.io/v1/"
"""What Docker Hub is called in files and by helpers."""


class Entry(Secretive, frozen=True):
    """One value of ``auths``, as written."""

    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None

    def credential(self) -> Credential:
        """What it says; ``auth`` wins over the plain fields, as in docker.

        :raises ValueError: when ``auth`` is not base64 of ``user:password``
        """
        username, password = self.username or "", self.password or ""
        if self.auth:
            username, password = _decode_auth(self.auth)
        return Credential(
            username=username,
            password=password,
            identity_token=self.identitytoken or "",
            registry_token=self.registrytoken or "",
        )


class _Raw(Secretive, frozen=True):
    """The keys of a file that matter here; a ``null`` counts as absent, as in Go."""

    auths: dict[str, Entry | None] | None = None
    cred_helpers: dict[str, str | None] | None = msgspec.field(name="credHelpers", default=None)
    creds_store: str | None = msgspec.field(name="credsStore", default=None)
    http_headers: dict[str, str | None] | None = msgspec.field(name="HttpHeaders", default=None)


class AuthFile(Secretive, frozen=True):
    """A parsed file (or variable): ``origin`` is what to call it in a message."""

    origin: str
    auths: dict[str, Entry]
    helpers: dict[str, str]
    store: str
    headers: dict[str, str]

    @classmethod
    def parse(cls, body: bytes, origin: str) -> AuthFile:
        """Read the bytes of a file; an empty one is an empty configuration.

        :raises CredentialError: when it is not a configuration; the message names ``origin`` and no content
        """
        body = body.removeprefix(b"\xef\xbb\xbf").strip() or b"{}"
        try:
            raw = msgspec.json.decode(body, type=_Raw)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            # msgspec says where, never what; the others may quote the content
            why = str(exc) if isinstance(exc, msgspec.DecodeError) else type(exc).__name__
            raise CredentialError(f"cannot read credentials from {origin}: {why}") from None
        return cls(
            origin=origin,
            auths=_normalised(raw.auths or {}),
            helpers={normalise(key): suffix or "" for key, suffix in (raw.cred_helpers or {}).items()},
            store=raw.creds_store or "",
            headers={name: value for name, value in (raw.http_headers or {}).items() if value is not None},
        )

    @classmethod
    def read(cls, path: Path) -> AuthFile | None:
        """Read a file; ``None`` when it is not there.

        A directory we may not enter counts as no file (a container's foreign ``$HOME``), a file we may not read does
        not.

        :raises CredentialError: when the file is there and cannot be read or understood
        """
        try:
            path.stat()
        except OSError:
            return None
        return cls.parse(_read_bytes(path), str(path))

    def credential(self, key: str) -> Credential | None:
        """What ``auths`` holds under one normalised key.

        :raises CredentialError: when the entry cannot be decoded
        """
        entry = self.auths.get(key)
        if entry is None:
            return None
        try:
            credential = entry.credential()
        except ValueError:
            message = f"cannot read credentials from {self.origin}: 'auth' of {key} is not base64 of user:password"
            raise CredentialError(message) from None
        return None if credential.anonymous else credential

    def helper(self, key: str) -> str:
        """The helper for one normalised key, empty for none: ``credHelpers``, then for a host ``credsStore``."""
        return self.helpers.get(key, "" if "/" in key else self.store)


def normalise(key: str) -> str:
    """``host[:port][/path]`` of a key. A URL (``https://host/v1/``) stands for the whole host, as in docker."""
    text = key.strip()
    scheme, url, rest = text.partition("://")
    if url and scheme.lower() in ("http", "https"):
        host, path = rest.partition("/")[0], ""
    else:
        host, _, path = text.partition("/")
        path = "" if path in ("v1/", "v2/") else path.strip("/")
    with contextlib.suppress(InvalidReference):
        host = parse_registry(host.lower())
    return f"{host}/{path}" if path else host


def server_key(key: str) -> str:
    """What files and helpers call a normalised key."""
    return HUB_KEY if key == DOCKER_HUB else key


def candidates(registry: str, repository: str = "") -> Iterator[str]:
    """The keys that match a repository, longest first, the bare registry last."""
    host = normalise(registry)
    parts = repository.split("/") if repository else []
    for length in range(len(parts), 0, -1):
        yield "/".join((host, *parts[:length]))
    yield host


def write_entry(path: Path, registry: str, entry: dict[str, str] | None) -> bool:
    """Set the entry of a registry in a file, or remove it with ``None``; everything else in the file stays.

    The file is replaced at once, readable by its owner only. Returns whether there was an entry.

    :raises CredentialError: when the file cannot be read, understood or written
    """
    host = normalise(registry)
    fields = _fields(path)
    auths = fields.get("auths")
    auths = auths if isinstance(auths, dict) else {}
    kept = {key: value for key, value in auths.items() if normalise(key) != host}
    known = len(kept) != len(auths)
    if entry is None and not known:
        return False
    fields["auths"] = kept if entry is None else {**kept, server_key(host): entry}
    _replace(path, (json.dumps(fields, indent="\t", ensure_ascii=False) + "\n").encode())
    return known


def _decode_auth(text: str) -> tuple[str, str]:
    """User and password: split at the first colon, trailing NULs cut, padding optional (old clients wrote both)."""
    stripped = text.strip()
    try:
        decoded = base64.b64decode(stripped + "=" * (-len(stripped) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("not base64 of text") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise ValueError("no colon")
    return username, password.rstrip("\0")


def _normalised(auths: dict[str, Entry | None]) -> dict[str, Entry]:
    """Entries by normalised key; of several for one host the one that says something, in today's spelling, wins."""
    found: dict[str, Entry] = {}

    def rank(item: tuple[str, Entry | None]) -> tuple[bool, bool]:
        key, entry = item
        return entry is not None and entry != Entry(), key == server_key(normalise(key))

    for key, entry in sorted(auths.items(), key=rank):
        if entry is not None:
            found[normalise(key)] = entry
    return found


def _read_bytes(path: Path) -> bytes:
    return _told(path, "read", path.read_bytes)


def _fields(path: Path) -> dict[str, Any]:
    """The whole file as it is, for changing a part of it."""
    if not path.exists():
        return {}
    body = _read_bytes(path)
    AuthFile.parse(body, str(path))
    try:
        fields = json.loads(body.decode("utf-8-sig").strip() or "{}")
    except (ValueError, RecursionError) as exc:  # in a part that reading skips, and writing would have to keep
        raise CredentialError(f"cannot read credentials from {path}: {type(exc).__name__}") from None
    return fields if isinstance(fields, dict) else {}


def _replace(path: Path, body: bytes) -> None:
    target = Path(os.path.realpath(path))  # the file may be a link into someone's dotfiles: keep the link

    def replace() -> None:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".config.", dir=target.parent)  # 0600 from the start
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    _told(path, "write", replace)


def _told(path: Path, verb: str, action: Callable[[], _T]) -> _T:
    try:
        return action()
    except OSError as exc:
        raise CredentialError(f"cannot {verb} credentials in {path}: {exc.strerror or type(exc).__name__}") from exc
