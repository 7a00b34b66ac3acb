"""Credentials as values that never show their secrets."""

from __future__ import annotations

import base64

import msgspec

from asyncrane.errors import InvalidInput

IDENTITY_USER = "<token>"
"""The user name that marks a secret as an identity token."""


class Secretive(msgspec.Struct, frozen=True):
    """A value that prints as the names of its fields that are set, never their contents."""

    def __repr__(self) -> str:
        held = ", ".join(name for name in self.__struct_fields__ if getattr(self, name))
        return f"{type(self).__name__}({held or 'empty'})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        # msgspec's own shows every value, and rich prefers it to __repr__
        return [(name, "...") for name in self.__struct_fields__ if getattr(self, name)]


class Credential(Secretive, frozen=True):
    """What to show a registry: a user and password, an OAuth2 refresh token, or a ready-made bearer token."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    @classmethod
    def parse(cls, text: str) -> Credential:
        """Read ``user:password``; the user ``<token>`` makes the rest an identity token, as with helpers.

        :raises InvalidInput: when there is no colon or nothing before it
        """
        username, colon, password = text.partition(":")
        if not colon or not username:
            raise InvalidInput("not credentials: expected USER:PASSWORD")
        return cls.of(username, password)

    @classmethod
    def of(cls, username: str, secret: str) -> Credential:
        """The credential a user name and a secret stand for (docker-credential-helpers, "<token>")."""
        if username == IDENTITY_USER:
            return cls(identity_token=secret)
        return cls(username=username, password=secret)

    @property
    def anonymous(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.username or self.password or self.identity_token or self.registry_token)

    def basic(self) -> str:
        """``base64(user:password)``, as in ``Authorization: Basic`` and in credential files. A secret."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credential()
"""Nobody."""
