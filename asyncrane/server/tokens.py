"""Bearer tokens and the service that gives them (Docker's token authentication specification, GET and oauth2 POST)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from asyncrane.server.access import Scope, Users, basic_credentials
from asyncrane.server.call import Call
from asyncrane.server.refusal import Refused
from asyncrane.server.reply import Reply

_LARGEST_FORM = 64 * 1024

Grant = Callable[[str, Scope], Iterable[str]]
"""Which of the wanted actions a user gets; the user is empty for the anonymous."""


class TokenAuth:
    """The registry takes bearer tokens; ``/token`` gives them for a password, a refresh token, or to anybody.

    :param life: seconds a token is good for; ``announced`` is what ``expires_in`` says instead, if it is to lie
    :param anonymous: actions anybody may have, such as ``{"pull"}``
    :param grant: which wanted actions a user gets; all of them without it
    """

    def __init__(
        self,
        users: Users,
        *,
        service: str = "asyncrane registry",
        life: float = 300,
        announced: float | None = None,
        anonymous: Iterable[str] = (),
        grant: Grant | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.life = life
        self.announced = announced
        self._users = users
        self._service = service
        self._anonymous = frozenset(anonymous)
        self._grant = grant
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._refresh_key = secrets.token_bytes(32)

    def __repr__(self) -> str:
        return f"TokenAuth({self._users!r}, life={self.life})"

    def revoke(self) -> None:
        """Every token given so far is no longer good; refresh tokens are."""
        self._key = secrets.token_bytes(32)

    def admit(self, call: Call, scope: Scope | None) -> None:
        """Let a request through whose token has the scope."""
        claims = self._claims(call)
        if claims is None:
            error = "invalid_token" if call.headers.get("Authorization") else ""
            raise self._challenge(call, scope, error)
        if scope is not None and not _covers(claims, scope):
            raise self._challenge(call, scope, "insufficient_scope")

    def allows(self, call: Call, scope: Scope) -> bool:
        """Whether the request's token has another scope, too."""
        claims = self._claims(call)
        return claims is not None and _covers(claims, scope)

    async def token(self, call: Call) -> Reply:
        """Give a token with what the user may have of what was asked."""
        if call.method == "GET":
            user, scopes, offline = self._from_query(call)
        else:
            user, scopes, offline = await self._from_form(call)
        granted = [got for wanted in scopes if (got := self._granted(user, wanted)).actions]
        now = self._clock()
        claims = {"sub": user, "exp": now + self.life, "access": [[s.type, s.name, sorted(s.actions)] for s in granted]}
        token = _sign(self._key, claims)
        answer: dict[str, Any] = {
            "token": token,
            "access_token": token,
            "expires_in": int(self.life if self.announced is None else self.announced),
            "issued_at": datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z"),
            "scope": " ".join(map(str, granted)),
        }
        if offline and user:
            answer["refresh_token"] = self.refresh_token(user)
        return Reply.of_json(answer, headers={"Cache-Control": "no-store"})

    def refresh_token(self, user: str) -> str:
        """A token to get tokens with, as ``docker login`` keeps it (identity token)."""
        return _sign(self._refresh_key, {"sub": user})

    def _from_query(self, call: Call) -> tuple[str, list[Scope], bool]:
        user = ""
        if header := call.headers.get("Authorization"):
            user, password = basic_credentials(header) or ("", "")
            self._check(user, password)
        return user, _scopes(call.query.get("scope", ())), call.ask("offline_token") == "true"

    async def _from_form(self, call: Call) -> tuple[str, list[Scope], bool]:
        body = await call.read(_LARGEST_FORM)
        fields = parse_qs((body or b"").decode("utf-8", "replace"))
        first = {name: values[0] for name, values in fields.items()}
        offline = first.get("access_type") == "offline"
        match first.get("grant_type"):
            case "password":
                user = first.get("username", "")
                self._check(user, first.get("password", ""))
            case "refresh_token":
                claims = _open(self._refresh_key, first.get("refresh_token", ""))
                if claims is None:
                    raise Refused(401, "UNAUTHORIZED", "the refresh token is not good")
                user, offline = str(claims["sub"]), True
            case other:
                raise Refused(400, "UNSUPPORTED", f"grant_type {str(other)[:40]!r} is not supported")
        return user, _scopes(fields.get("scope", ())), offline

    def _check(self, user: str, password: str) -> None:
        if not user or not self._users.check(user, password):
            raise Refused(401, "UNAUTHORIZED", "incorrect username or password")

    def _granted(self, user: str, wanted: Scope) -> Scope:
        actions = wanted.actions if user else wanted.actions & self._anonymous
        if self._grant is not None:
            actions &= frozenset(self._grant(user, wanted))
        return Scope(wanted.type, wanted.name, actions)

    def _claims(self, call: Call) -> dict[str, Any] | None:
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        claims = _open(self._key, token.strip()) if scheme.lower() == "bearer" else None
        return claims if claims is not None and claims["exp"] > self._clock() else None

    def _challenge(self, call: Call, scope: Scope | None, error: str) -> Refused:
        parts = {"realm": f"{call.base}/token", "service": self._service, "scope": str(scope or ""), "error": error}
        # what is asked for may be anything, and must not end the header or the quotes
        challenge = ",".join(f'{name}="{value}"' for name, value in parts.items() if value and _may_be_quoted(value))
        headers = {"WWW-Authenticate": f"Bearer {challenge}"}
        return Refused(401, "UNAUTHORIZED", error.replace("_", " ") or "authentication required", headers=headers)


def _scopes(texts: Iterable[str]) -> list[Scope]:
    """Scopes come repeated, or joined by spaces, or both."""
    return [scope for text in texts for word in text.split() if (scope := Scope.parse(word))]


def _covers(claims: dict[str, Any], scope: Scope) -> bool:
    have: set[str] = set()
    for kind, name, actions in claims["access"]:
        if (kind, name) == (scope.type, scope.name):
            have.update(actions)
    return "*" in have or scope.actions <= have


def _sign(key: bytes, claims: dict[str, Any]) -> str:
    payload = json.dumps(claims).encode()
    return ".".join(_text(part) for part in (payload, hmac.digest(key, payload, hashlib.sha256)))


def _open(key: bytes, token: str) -> dict[str, Any] | None:
    payload, _, signature = token.partition(".")
    try:
        data, seal = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (payload, signature))
    except (binascii.Error, ValueError):
        return None
    if not hmac.compare_digest(seal, hmac.digest(key, data, hashlib.sha256)):
        return None
    claims: dict[str, Any] = json.loads(data)
    return claims


def _may_be_quoted(value: str) -> bool:
    return value.isascii() and value.isprintable() and not {'"', "\\"} & set(value)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
