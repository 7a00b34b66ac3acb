"""Authentication without I/O: what a registry demands (``WWW-Authenticate``), and the dance for a bearer token.

The dance is a generator: it yields a :class:`TokenRequest`, is sent the answer's body, or has the error the token
service answered with thrown into it, and returns a :class:`Grant`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from asyncrane.auth.credentials import Credential, Secretive
from asyncrane.errors import RegistryError, ServerFault
from asyncrane.transport.redaction import bare_url

_CLIENT = "asyncrane"
_DEFAULT_LIFE = 60.0
_NO_OAUTH2 = frozenset({404, 405})
_REFUSED = frozenset({400, 401})


def pull_scope(path: str) -> str:
    """The scope to read repository ``path``."""
    return f"repository:{path}:pull"


def push_scope(path: str) -> str:
    """The scope to write repository ``path``."""
    return f"repository:{path}:push,pull"


def delete_scope(path: str) -> str:
    """The scope to delete from repository ``path``."""
    return f"repository:{path}:push,pull,delete"


def catalog_scope() -> str:
    """The scope to list a registry's repositories."""
    return "registry:catalog:*"


def repository_of(scopes: Iterable[str]) -> str:
    """The first repository the scopes name, empty when they name none."""
    for scope in scopes:
        kind, name, _ = split_scope(scope)
        if name and kind.partition("(")[0] == "repository":
            return name
    return ""


def split_scope(scope: str) -> tuple[str, str, str]:
    """``type:name:actions``; the name may hold colons."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return kind, name, actions


def merge_scopes(held: Sequence[str], demanded: Iterable[str]) -> tuple[str, ...]:
    """``held`` with the actions ``demanded`` added; a resource not yet in it goes first, as some token services honour
    only the first. Nothing is named twice, so that merging again and again does not grow.
    """
    actions: dict[tuple[str, str], dict[str, None]] = {}
    for scope in held:
        _add(actions, scope)
    fresh = [scope for scope in demanded if split_scope(scope)[:2] not in actions]
    first: dict[tuple[str, str], dict[str, None]] = {}
    for scope in fresh:
        _add(first, scope)
    for scope in demanded:
        if split_scope(scope)[:2] in actions:
            _add(actions, scope)
    return tuple(f"{kind}:{name}:{','.join(todo)}" for (kind, name), todo in {**first, **actions}.items())


def _add(actions: dict[tuple[str, str], dict[str, None]], scope: str) -> None:
    kind, name, todo = split_scope(scope)
    actions.setdefault((kind, name), {}).update(dict.fromkeys(todo.split(",")))


class Challenge(msgspec.Struct, frozen=True):
    """One challenge: ``scheme`` and the names of ``parameters`` are lower-case."""

    scheme: str
    parameters: dict[str, str] = {}

    @property
    def realm(self) -> str:
        """Where a bearer token is to be had: a URL."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        """How the token service knows the registry."""
        return self.parameters.get("service", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        """What is asked for."""
        return tuple(self.parameters.get("scope", "").split())


def parse_challenges(lines: Iterable[str]) -> list[Challenge]:
    """Every challenge of every ``WWW-Authenticate`` line, in order (RFC 9110, 11.6.1).

    Lenient where registries are: any case, values without quotes up to a comma or space, a missing closing quote.
    """
    return [challenge for line in lines for challenge in _scan(line)]


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """The first challenge that can be met: Basic, or Bearer with a realm."""
    for challenge in challenges:
        if challenge.scheme == "basic" or (challenge.scheme == "bearer" and challenge.realm):
            return challenge
    return None


def _scan(line: str) -> Iterable[Challenge]:
    """Words followed by ``=`` are parameters, other words begin a challenge."""
    scheme, parameters = "", dict[str, str]()
    at, end = 0, len(line)
    while at < end:
        if line[at] in " \t,=":
            at += 1
            continue
        start = at
        while at < end and line[at] not in " \t,=":
            at += 1
        word = line[start:at].lower()
        after = at
        while after < end and line[after] in " \t":
            after += 1
        if after < end and line[after] == "=":
            value, at = _value(line, after + 1)
            if scheme:
                parameters.setdefault(word, value)
            continue
        if scheme:
            yield Challenge(scheme, parameters)
        scheme, parameters = word, {}
    if scheme:
        yield Challenge(scheme, parameters)


def _value(line: str, at: int) -> tuple[str, int]:
    end = len(line)
    while at < end and line[at] in " \t":
        at += 1
    if at < end and line[at] == '"':
        return _quoted(line, at + 1)
    start = at
    while at < end and line[at] not in " \t,":
        at += 1
    return line[start:at], at


def _quoted(line: str, at: int) -> tuple[str, int]:
    end, value = len(line), list[str]()
    while at < end and line[at] != '"':
        if line[at] == "\\" and at + 1 < end:
            at += 1
        value.append(line[at])
        at += 1
    return "".join(value), at + 1


class TokenRequest(Secretive, frozen=True):
    """What to ask the token service; ``authorization`` is the header's value, ``form`` a POST's body."""

    method: str
    url: str
    authorization: str = ""
    form: bytes = b""


class Grant(Secretive, frozen=True):
    """What the token service gave; ``life`` is in seconds from receipt."""

    token: str
    life: float = _DEFAULT_LIFE
    refresh_token: str = ""


def token_dance(
    realm: str, service: str, scopes: Sequence[str], credential: Credential, *, refresh_token: str = ""
) -> Generator[TokenRequest, bytes, Grant]:
    """Get a token for all ``scopes`` from ``realm``.

    An identity token, or the refresh token of an earlier grant, is shown by POST (OAuth2); where that is not
    understood, and for passwords and nobody, it is a GET.

    :raises RegistryError: what was thrown in, when there is no other way to try
    """
    secret = refresh_token or credential.identity_token
    if secret:
        form = {"grant_type": "refresh_token", "refresh_token": secret, "service": service, "client_id": _CLIENT}
        request = TokenRequest("POST", realm, "", urlencode({**form, "scope": " ".join(scopes)}).encode())
        try:
            return read_grant((yield request), realm)
        except RegistryError as exc:
            other_way = bool(credential.password or (refresh_token and credential.identity_token))
            if not (exc.status in _NO_OAUTH2 or (exc.status in _REFUSED and other_way)):
                raise
    if refresh_token and credential.identity_token:
        return (yield from token_dance(realm, service, scopes, credential))
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    joint = "&" if "?" in realm else "?"
    url = f"{realm}{joint}{urlencode(query)}" if query else realm
    basic = f"Basic {credential.basic()}" if credential.username or credential.password else ""
    return read_grant((yield TokenRequest("GET", url, basic)), realm)


def read_grant(body: bytes, realm: str) -> Grant:
    """Read a token service's answer; a missing or senseless ``expires_in`` is 60 seconds (distribution, "token").

    :raises ServerFault: when there is no usable token in it
    """
    shown = bare_url(realm)
    try:
        fields: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ServerFault(f"{shown}: the token service's answer is not JSON") from exc
    token: Any = (fields.get("access_token") or fields.get("token")) if isinstance(fields, dict) else None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ServerFault(f"{shown}: the token service's answer holds no usable token")
    refresh = fields.get("refresh_token")
    return Grant(token, _life(fields.get("expires_in")), refresh if isinstance(refresh, str) else "")


def _life(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_LIFE
    return seconds if 0 < seconds < float("inf") else _DEFAULT_LIFE
