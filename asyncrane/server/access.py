"""Who may do what: the :class:`Auth` protocol and user names with passwords (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from asyncrane.server.call import Call
from asyncrane.server.refusal import Refused
from asyncrane.server.reply import Reply


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one thing, as token services write them: ``repository:NAME:pull,push``."""

    type: str
    name: str
    actions: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Scope | None:
        """Read ``type:name:action[,action]``; the name may contain colons."""
        kind, _, rest = text.partition(":")
        name, colon, actions = rest.rpartition(":")
        return cls(kind, name, frozenset(filter(None, actions.split(",")))) if colon and name else None

    def __str__(self) -> str:
        # "pull,push": the order clients and services agree on.
        return f"{self.type}:{self.name}:{','.join(sorted(self.actions))}"


_NEEDED = {
    "blob-head": "pull",
    "blob-get": "pull",
    "blob-delete": "delete",
    "upload-post": "pull,push",
    "upload-patch": "pull,push",
    "upload-put": "pull,push",
    "upload-status": "pull,push",
    "upload-delete": "pull,push",
    "mount": "pull,push",
    "manifest-get": "pull",
    "manifest-head": "pull",
    "manifest-put": "pull,push",
    "manifest-delete": "delete",
    "tags": "pull",
    "referrers": "pull",
}


def needed(call: Call) -> Scope | None:
    """What a request must be allowed; ``None`` for the ping, which only asks who is there."""
    if call.route.kind == "catalog":
        return Scope("registry", "catalog", frozenset({"*"}))
    actions = _NEEDED.get(call.route.kind)
    return Scope("repository", call.route.repository, frozenset(actions.split(","))) if actions else None


def pull_from(repository: str) -> Scope:
    """What a mount needs of the repository it takes from."""
    return Scope("repository", repository, frozenset({"pull"}))


class Auth(Protocol):
    """Decides who may do what."""

    def admit(self, call: Call, scope: Scope | None) -> None:
        """Let a request through that needs ``scope``.

        :raises Refused: 401 with a challenge, when it may not
        """
        ...

    def allows(self, call: Call, scope: Scope) -> bool:
        """Whether the same request might also do something else."""
        ...

    async def token(self, call: Call) -> Reply:
        """Answer a request to the token service; 404 where there is none."""
        ...


class Users(Protocol):
    """Knows passwords."""

    def check(self, username: str, password: str) -> bool:
        """Whether this is the user's password."""
        ...


class PlainUsers:
    """Passwords at hand, for tests and throw-away registries."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = dict(passwords)

    def __repr__(self) -> str:
        return f"PlainUsers({sorted(self._passwords)})"

    def check(self, username: str, password: str) -> bool:
        """Whether this is the user's password."""
        known = self._passwords.get(username)
        return known is not None and hmac.compare_digest(known.encode(), password.encode())


class BasicAuth:
    """Every user may do everything, nobody else anything."""

    def __init__(self, users: Users, *, realm: str = "asyncrane registry") -> None:
        self._users = users
        self._realm = realm

    def __repr__(self) -> str:
        return f"BasicAuth({self._users!r})"

    def admit(self, call: Call, scope: Scope | None) -> None:
        """Let users in."""
        if not self._known(call):
            challenge = {"WWW-Authenticate": f'Basic realm="{self._realm}"'}
            raise Refused(401, "UNAUTHORIZED", "authentication required", headers=challenge)

    def allows(self, call: Call, scope: Scope) -> bool:
        """Whether it is a user who asks."""
        return self._known(call)

    async def token(self, call: Call) -> Reply:
        """There is no token service."""
        raise Refused(404, "UNSUPPORTED", "this registry takes user names and passwords")

    def _known(self, call: Call) -> bool:
        found = basic_credentials(call.headers.get("Authorization", ""))
        return found is not None and self._users.check(*found)


def basic_credentials(header: str) -> tuple[str, str] | None:
    """User name and password of an ``Authorization: Basic`` header."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (username, password) if colon else None
