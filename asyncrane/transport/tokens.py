"""Who we are to one registry: the challenge it poses, and what we hold to meet it, per scopes (C1, C2, C3)."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
import unicodedata
from collections.abc import Awaitable, Callable, Generator, Sequence
from urllib.parse import urljoin, urlsplit

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.keychain import Keychain, renew
from asyncrane.errors import Denied, RegistryError, ServerFault, Unauthorized
from asyncrane.oci.reference import is_loopback_or_private
from asyncrane.transport.challenge import (
    Challenge,
    Grant,
    TokenRequest,
    choose,
    merge_scopes,
    repository_of,
    token_dance,
)
from asyncrane.transport.flight import Flight
from asyncrane.transport.redaction import bare_url

Send = Callable[[TokenRequest], Awaitable[bytes]]
"""Sends a token request; raises the error of an answer that is not 200."""

_EARLY = 5.0
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Token:
    """What to show a registry for some scopes: ``authorization`` is the header's value, empty for nobody.

    ``value`` is the bearer token, empty for Basic. ``expires`` and its kin are the event loop's time.
    """

    __slots__ = (
        "authorization",
        "credential",
        "expires",
        "fresh_until",
        "headers",
        "obtained",
        "usable_until",
        "value",
    )

    def __init__(
        self, authorization: str, *, value: str = "", credential: Credential = ANONYMOUS, life: float = math.inf
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.authorization = authorization
        self.value = value
        self.credential = credential
        self.headers: dict[str, str] = {"Authorization": authorization} if authorization else {}
        self.obtained = now
        self.expires = now + life
        # shortly before the end for a request that is over in no time
        self.usable_until = now + life - min(_EARLY, 0.1 * life) if life < math.inf else math.inf
        # with a quarter of its life left for one that streams a body
        self.fresh_until = now + 0.75 * life

    def __repr__(self) -> str:
        kind = self.authorization.partition(" ")[0] or "anonymous"
        return f"Token({kind})"


class Tokens:
    """The tokens of one registry. Whoever needs one that somebody is fetching waits for that one (A4)."""

    def __init__(self, registry: str, keychain: Keychain, send: Send) -> None:
        self.base = ""
        self._registry = registry
        self._keychain = keychain
        self._send = send
        self._challenge: Challenge | None = None
        self._demanded = False
        self._held: dict[tuple[str, ...], Token] = {}
        self._merged: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._refresh: dict[str, str] = {}
        self._flights: dict[tuple[str, ...], Flight[Token]] = {}

    def challenged(self, challenges: Sequence[Challenge], *, demanded: bool) -> None:
        """The registry posed challenges; ``demanded`` when it refused a request for want of an answer.

        A Bearer challenge once seen is kept: Harbor answers Basic to whatever already carried a token.
        """
        self._demanded = self._demanded or demanded
        challenge = choose(challenges)
        if challenge is None:
            return
        if self._challenge is None or self._challenge.scheme == "basic" or challenge.scheme == "bearer":
            self._challenge = challenge

    def ready(self, scopes: tuple[str, ...], now: float, *, streaming: bool = False) -> Token | None:
        """The token held for ``scopes``, if it lives long enough for one request, or for one with a streamed body."""
        token = self._held.get(scopes)
        if token is None or now >= (token.fresh_until if streaming else token.usable_until):
            return None
        return token

    async def get(self, scopes: tuple[str, ...]) -> Token:
        """A new token for ``scopes``.

        :raises Unauthorized: when the credentials are refused
        :raises CredentialError: when there is no telling what they are
        """
        return await self._flight(scopes, lambda: self._obtain(scopes, None))

    def drop(self, scopes: tuple[str, ...], token: Token) -> None:
        """The token was refused; keep it from being shown again."""
        if self._held.get(scopes) is token:
            del self._held[scopes]

    async def renewed(
        self, scopes: tuple[str, ...], refused: Token, challenges: Sequence[Challenge], now: float
    ) -> Token | None:
        """The token to try after ``refused``, with what the challenge demands added; ``None`` if there is no other."""
        held = self.ready(scopes, now)
        if held is not None and held is not refused:
            return held
        self.drop(scopes, refused)
        self.challenged(challenges, demanded=True)
        found = choose(challenges)
        if found is not None and found.scopes:
            # from the caller's scopes each time, so that demands do not pile up (C2)
            self._merged[scopes] = merge_scopes(scopes, found.scopes)
        token = await self._flight(scopes, lambda: self._obtain(scopes, refused))
        return None if token.authorization == refused.authorization else token

    async def _flight(self, scopes: tuple[str, ...], work: Callable[[], Awaitable[Token]]) -> Token:
        flight = self._flights.get(scopes)
        if flight is None:
            flight = self._flights[scopes] = Flight()
        return await flight.run(work)

    async def _obtain(self, scopes: tuple[str, ...], refused: Token | None) -> Token:
        repository = repository_of(scopes)
        wanted = self._merged.get(scopes, scopes)
        if refused is not None and self._shows_secret(refused):
            credential = await renew(self._keychain, refused.credential, self._registry, repository)
        else:
            credential = await self._keychain.find(self._registry, repository)
        try:
            token = await self._exchange(credential, wanted, repository)
        except (Unauthorized, Denied):
            # the token service refused who we are: perhaps a helper knows better by now (C3)
            other = (
                ANONYMOUS
                if credential.anonymous
                else await renew(self._keychain, credential, self._registry, repository)
            )
            if other in (credential, ANONYMOUS):
                raise
            token = await self._exchange(other, wanted, repository)
        self._held[scopes] = token
        return token

    @staticmethod
    def _shows_secret(token: Token) -> bool:
        """Whether the token is the credential itself, not something got for it."""
        return token.authorization.startswith("Basic ") or bool(token.credential.registry_token)

    async def _exchange(self, credential: Credential, scopes: Sequence[str], repository: str) -> Token:
        if credential.registry_token:
            value = credential.registry_token
            return Token(f"Bearer {value}", value=value, credential=credential)
        challenge = self._challenge
        if credential.anonymous and not self._demanded:
            return Token("")
        if challenge is not None and challenge.scheme == "bearer":
            return await self._bearer(challenge, credential, scopes, repository)
        if credential.username or credential.password:
            # also unasked: a registry that lets anybody read may still want to know who writes (ggcr does so)
            return Token(f"Basic {credential.basic()}", credential=credential)
        return Token("", credential=credential)

    async def _bearer(
        self, challenge: Challenge, credential: Credential, scopes: Sequence[str], repository: str
    ) -> Token:
        realm = self._checked(challenge.realm)
        refresh = self._refresh.pop(repository, "")
        dance = token_dance(realm, challenge.service, scopes, credential, refresh_token=refresh)
        grant = await self._drive(dance)
        if grant.refresh_token:
            self._refresh[repository] = grant.refresh_token
        return Token(f"Bearer {grant.token}", value=grant.token, credential=credential, life=grant.life)

    async def _drive(self, dance: Generator[TokenRequest, bytes, Grant]) -> Grant:
        try:
            request = next(dance)
            while True:
                try:
                    body = await self._send(request)
                except RegistryError as exc:
                    request = dance.throw(exc)
                else:
                    request = dance.send(body)
        except StopIteration as end:
            grant: Grant = end.value
            return grant

    def _checked(self, realm: str) -> str:
        """The token service's URL, if a secret may be sent there.

        :raises ServerFault: when not: it is not HTTPS while the registry is, or somebody else's private address
        """
        try:
            url = urljoin(self.base, realm)
            parts = urlsplit(url)
            _ = parts.port  # is looked at when it is asked for
            host = parts.hostname
        except ValueError:
            host = ""
        if not host or not host.isascii():
            raise ServerFault(f"{self._registry}: the token service it names is no URL")
        if parts.scheme != "https" and not (parts.scheme == "http" and self.base.startswith("http://")):
            raise ServerFault(f"{self._registry}: refused to get a token from {bare_url(url)}: it is not https")
        if is_foreign_private(host, self._registry):
            raise ServerFault(f"{self._registry}: refused to get a token from {bare_url(url)}: a private address")
        return url


def is_foreign_private(host: str, registry: str) -> bool:
    """Whether ``host`` is a private, loopback or link-local IP address, or a name of this machine, and the registry is
    neither there nor private itself: then a registry must not send us there.
    """
    if is_loopback_or_private(registry) or host == (urlsplit(f"//{registry}").hostname or ""):
        return False
    # as resolvers take a name in other characters (RFC 3490, "ToASCII")
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip("[]").partition("%")[0].rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost") or _is_private(name)


def _is_private(name: str) -> bool:
    """Whether it is such an address, however written: resolvers take ``127.1``, ``0x7f000001`` and ``2130706433`` for
    one, too, and an IPv6 address may be one of IPv4 in disguise (RFC 6052).
    """
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, UnicodeEncodeError):
            return False
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        address = ipaddress.IPv4Address(address.packed[-4:])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return not (mapped or address).is_global
