"""One registry as we know it: where it is, what it demands, what it can do, and when it wants to be left alone.

Everything here is about *trying*: :mod:`~asyncrane.transport.wire` makes one attempt, :class:`Origin` decides whether
there is another. The common request runs straight through: a token that is held, one exchange, an expected status.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import aiohttp
import anyio
from yarl import URL

from asyncrane.auth.keychain import Keychain
from asyncrane.errors import AsyncraneError, ConnectFailed, RateLimited, RegistryError, TransportError
from asyncrane.oci.reference import is_loopback_or_private
from asyncrane.transport import failure, retry, tries
from asyncrane.transport.answer import Answer, Body, Streaming
from asyncrane.transport.call import Call
from asyncrane.transport.capabilities import Capabilities
from asyncrane.transport.challenge import TokenRequest, parse_challenges
from asyncrane.transport.flight import Flight
from asyncrane.transport.gate import Gate
from asyncrane.transport.options import RegistryOptions
from asyncrane.transport.redirect import follow, resolve
from asyncrane.transport.scheme import first_good
from asyncrane.transport.statistics import Counters, OriginStatistics
from asyncrane.transport.tokens import Token, Tokens
from asyncrane.transport.traffic import Traffic, carries_blob
from asyncrane.transport.wire import SMALL, Route, Upload, Wire

_LARGEST_ANSWER = 16 * 1024 * 1024
_LARGEST_ERROR = 64 * 1024
_LARGEST_TOKEN = 1024 * 1024
_OLD = 300.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

Mend: TypeAlias = Callable[[str, RegistryError], Awaitable[bool]]
"""Told of a repository's path and how a push to it was refused; whether something was done about it."""


class Origin:
    """One registry, for one keychain. Made by :meth:`Pool.origin`; may be used by any number of tasks.

    ``on_throttle`` is called with seconds whenever the registry is to be left alone for so long, and with 0 when it
    seems to have too much to do. ``on_missing`` may do something about a repository that a push finds missing.
    """

    def __init__(
        self,
        registry: str,
        keychain: Keychain,
        wire: Wire,
        *,
        policy: retry.Policy,
        insecure: bool = False,
        plain: bool = False,
        head_start: float = 0.3,
        traffic: Traffic | None = None,
    ) -> None:
        self.registry = registry
        self.capabilities = Capabilities()
        self.on_missing: Mend | None = None
        self._keychain = keychain
        self._wire = wire
        self._policy = policy
        self._insecure = insecure
        self._plain = plain
        self._head_start = head_start
        self._traffic = traffic or Traffic(RegistryOptions())
        self._counters = Counters()
        self._gate = Gate(self._counters)
        self._tokens = Tokens(registry, keychain, self._ask_token_service)
        self._clock = asyncio.get_running_loop().time
        self._base = ""
        self._route: Route | None = None
        self._extra: Mapping[str, str] = {}
        self._search: Flight[tuple[str, Route]] = Flight()

    @property
    def on_throttle(self) -> Callable[[float], None] | None:
        """Told how many seconds the registry will be left alone."""
        return self._gate.on_throttle

    @on_throttle.setter
    def on_throttle(self, tell: Callable[[float], None] | None) -> None:
        self._gate.on_throttle = tell

    async def request(
        self,
        method: str,
        target: str,
        *,
        scopes: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | Body = b"",
        expect: Collection[int] = (200,),
        limit: int = _LARGEST_ANSWER,
        retry: bool = True,
        patience: float = 0.0,
    ) -> Answer:
        """Ask the registry and read the whole answer, at most ``limit`` bytes.

        ``target`` is a path, or an absolute URL that is encoded already. Without ``retry`` there is one attempt, also
        while the registry is parked, save for the one renewal of a refused token. A body that was partly read is never
        sent again. ``patience``: the seconds that a large blob to be hashed and moved may add to the stall limit.

        :raises RegistryError: for a status that is not in ``expect``
        :raises TransportError: when there is no answer
        """
        call = Call(method, target, tuple(scopes), headers, body, expect, limit, retry=retry)
        call.patience = patience
        return await self._perform(call)

    def stream(
        self,
        method: str,
        target: str,
        *,
        scopes: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = (200,),
        retry: bool = True,
    ) -> AbstractAsyncContextManager[Answer]:
        """As :meth:`request`, for an answer that is read through :meth:`Answer.chunks`; leaving lets go of it."""
        call = Call(method, target, tuple(scopes), headers, b"", expect, None, retry=retry)
        return Streaming(lambda: self._perform(call))

    async def token(self, scopes: Sequence[str]) -> Token:
        """What would be shown for a request with these scopes."""
        if not self._base:
            await self._search.run(self._find_base)
        wanted = tuple(scopes)
        return self._tokens.ready(wanted, self._clock()) or await self._tokens.get(wanted)

    async def base(self) -> str:
        """``scheme://host[:port]`` of the registry."""
        if not self._base:
            await self._search.run(self._find_base)
        return self._base

    @property
    def parked(self) -> float:
        """Seconds for which the registry is still to be left alone, or what waits for its quota has to wait."""
        return self._gate.pause(self._clock())

    def statistics(self) -> OriginStatistics:
        """What went over the wire so far."""
        return self._counters.snapshot()

    def __repr__(self) -> str:
        return f"Origin({self._base or self.registry})"

    # one call, as many attempts as it takes

    async def _perform(self, call: Call) -> Answer:
        call.started = self._clock()
        while True:
            # finding the registry and a token are calls of their own, with attempts of their own
            if not call.placed:
                await self._place(call)
            gate = self._gate
            counted = call.kind == "manifests" and call.method == "GET"
            if (gate.until or gate.quota_until) and call.retry and not call.foreign:
                await gate.wait(counted=counted, deadline=call.started + self._policy.max_time, what=call.what)
            headers = await self._headers(call)
            lane = self._traffic.lane(call)
            if lane is not None:
                await lane.acquire()
                if call.retry and gate.is_shut(counted=counted):  # what is new is not to be waited for in the lane
                    lane.release()
                    continue
                call.lane = lane
            try:
                response, body = await self._attempt(call, headers)
            except TransportError as exc:
                error: AsyncraneError | None = exc
            else:
                missing = self.on_missing is not None and response.status in (403, 404) and call.pushes
                if missing and await self._mended(call, response, body, headers):
                    continue
                if call.accepts(response.status, response.headers, body):
                    if call.kind == "manifests" and (refill := retry.exhausted(response.headers)):
                        gate.hold_quota(refill)
                    return self._answer(call, response, body)
                error = await self._refused(call, response, body, headers)
            if error is not None:
                await self._pause(call, error)

    def _answer(self, call: Call, response: aiohttp.ClientResponse, body: bytes) -> Answer:
        limit = self._wire.stall_timeout
        if call.limit is not None:
            return Answer(call.method, response, body, self._counters, limit)
        return Answer(call.method, response, body, self._counters, limit, pace=self._traffic.received, leave=call.leave)

    async def _place(self, call: Call) -> None:
        """Find out where the call goes."""
        if call.scopes is None:
            url = URL(call.target, encoded=True)
            return call.place(url, self._wire.route(url))
        base, route = self._base, self._route
        if not base or route is None:
            base, route = await self._search.run(self._find_base)
        if call.target.startswith("/"):
            return call.place(URL(base + call.target, encoded=True), route)
        url, foreign = resolve(base, call.target, insecure=self._insecure)
        return call.place(url, self._wire.route(url) if foreign else route, foreign=foreign)

    async def _attempt(self, call: Call, headers: Mapping[str, str]) -> tuple[aiohttp.ClientResponse, bytes]:
        """One exchange. A call holds its lane until it is over; one whose answer is streamed, until that is let go."""
        streaming = False
        try:
            response, content = await self._exchange(call, headers)
            streaming = call.limit is None and response.status in call.expect
        finally:
            if not streaming:
                call.leave()
        return response, content

    async def _exchange(self, call: Call, headers: Mapping[str, str]) -> tuple[aiohttp.ClientResponse, bytes]:
        counters, body, wire = self._counters, call.body, self._wire
        counters.requests[call.method, call.kind] += 1
        if isinstance(body, Body) or len(body) > SMALL:
            return await self._upload(call, headers)
        if body and self._traffic.sent is not None and carries_blob(call):
            await self._traffic.sent.take(len(body))
        response = await wire.send(call.method, call.url, call.route, headers, body or None, patience=call.patience)
        if body:
            counters.sent += len(body)
        limit = call.limit if response.status in call.expect else _LARGEST_ERROR
        if limit is None:
            return response, b""
        content = await wire.read(call.method, response, limit=limit)
        counters.received += len(content)
        return response, content

    async def _upload(self, call: Call, headers: Mapping[str, str]) -> tuple[aiohttp.ClientResponse, bytes]:
        body = call.streamed()
        if body.length is not None:
            headers = {**headers, "Content-Length": str(body.length)}
        pace = self._traffic.sent if carries_blob(call) else None
        stall, counters = self._wire.stall_timeout, self._counters
        upload = Upload(body, call.what(), stall, counters, patience=call.patience, pace=pace)
        limit = _LARGEST_ANSWER if call.limit is None else call.limit
        try:
            return await self._wire.upload(call.method, call.url, call.route, headers, upload, limit=limit)
        finally:
            call.spent = upload.taken > 0 and isinstance(call.body, Body)

    async def _headers(self, call: Call) -> Mapping[str, str]:
        """The call's headers with a token, if it goes to the registry itself."""
        given = call.headers
        if call.scopes is None:
            # what a ping or a token request carries is for that host alone
            return {} if call.foreign or given is None else given
        if call.foreign:
            return given or {}
        streaming = isinstance(call.body, Body)
        token = self._tokens.ready(call.scopes, self._clock(), streaming=streaming)
        if token is None:
            token = await self._tokens.get(call.scopes)
        call.token = token
        return {**self._extra, **token.headers, **(given or {})} if self._extra or given else token.headers

    # what to do about an answer that was not expected

    async def _refused(
        self, call: Call, response: aiohttp.ClientResponse, body: bytes, shown: Mapping[str, str]
    ) -> AsyncraneError | None:
        """``None`` when the call is to be tried again at once, otherwise the error the answer means."""
        status, headers = response.status, response.headers
        if status in _REDIRECTS and not call.spent and follow(call, response, self.registry, insecure=self._insecure):
            call.route = self._wire.route(call.url)
            return None
        token, note = call.token, call.remark(status, self.registry)
        if token is not None and not call.foreign and self._is_stale(call, token, status, body):
            if await self._renew(call, token, response):
                return None
            note = f" (no credentials for {self.registry})" if token.credential.anonymous else ""
        wait = retry.retry_after(headers, time.time()) or (retry.exhausted(headers) if status == 429 else None)
        secrets = call.secrets(shown)
        error = failure.of_answer(
            call.method, str(response.url), status, headers, body, retry_after=wait, note=note, secrets=secrets
        )
        if wait and not call.foreign and (status == 503 or isinstance(error, RateLimited)):
            self._gate.park(wait)
        return error

    async def _mended(
        self, call: Call, response: aiohttp.ClientResponse, body: bytes, shown: Mapping[str, str]
    ) -> bool:
        """Whether the repository that was missing is there now; asked once for each call."""
        if call.mended or call.spent or self.on_missing is None:
            return False
        call.mended = True
        where, secrets = str(response.url), call.secrets(shown)
        error = failure.of_answer(call.method, where, response.status, response.headers, body, secrets=secrets)
        return await self.on_missing(call.repository, error)

    def _is_stale(self, call: Call, token: Token, status: int, body: bytes) -> bool:
        """Whether the answer means that what was shown has run out: 401, or what ECR says instead."""
        if status == 401:
            return True
        if status not in (400, 403) or not token.authorization:
            return False
        return b"expired" in body.lower() or (call.method == "HEAD" and self._clock() - token.obtained > _OLD)

    async def _renew(self, call: Call, token: Token, response: aiohttp.ClientResponse) -> bool:
        """Get another token, once per call; a body that was read from is the caller's to send again (C1)."""
        scopes = call.scopes or ()
        challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
        if call.renewed:
            self._tokens.drop(scopes, token)
            return False
        call.renewed = True
        if call.spent:
            self._tokens.challenged(challenges, demanded=True)
            self._tokens.drop(scopes, token)
            return False
        return await self._tokens.renewed(scopes, token, challenges, self._clock()) is not None

    async def _pause(self, call: Call, error: AsyncraneError) -> None:
        """Wait before the next attempt.

        :raises AsyncraneError: ``error``, when there is to be none
        """
        policy, limited = self._policy, isinstance(error, RateLimited)
        if not call.foreign and retry.is_congestion(error):
            self._gate.slow_down()
        if not call.retry or call.spent or not self._may_pass(call, error):
            raise error
        asked = (error.retry_after or 0.0) if isinstance(error, RateLimited) else 0.0
        if asked < 1.0:
            # waits the registry asked for are limited by time alone
            call.failures += 1
        delay = max(asked, policy.delay(max(call.failures, 1), random.random()))  # noqa: S311  jitter, not a secret
        if isinstance(error.__cause__, failure.Dropped) and call.failures == 1:
            delay = 0.0  # most likely a kept connection that had died meanwhile
        waiting = delay if call.foreign else max(delay, self._gate.until - self._clock())
        if call.failures > policy.retries or self._clock() + waiting > call.started + policy.max_time:
            raise error
        self._counters.retries += 1
        tries.tell(error)
        if self._wire.trace is not None:
            self._wire.trace.note(f"again in {waiting:.2f} s: {error}")
        if limited and not call.foreign:
            self._gate.park(delay)
        elif delay:
            await anyio.sleep(delay)
        call.again()

    def _may_pass(self, call: Call, error: AsyncraneError) -> bool:
        if not isinstance(error, TransportError):
            return isinstance(error, RateLimited) or (
                isinstance(error, RegistryError) and retry.may_change(error.status)
            )
        if not call.pinging:
            return failure.is_transient(error)
        # a host never heard of is not waited for; http beside https is a guess that deserves one more try
        guess = call.target.startswith("http:") and not self._plain
        return failure.is_transient(error) and not isinstance(error, ConnectFailed) and not (guess and call.failures)

    # the registry's address, and its token service

    async def _find_base(self) -> tuple[str, Route]:
        if self._base and self._route is not None:
            return self._base, self._route
        self._extra = self._keychain.headers()
        schemes = ["https"]
        if self._plain:
            schemes = ["http"]
        elif self._insecure or is_loopback_or_private(self.registry):
            schemes.append("http")
        answer = await first_good(schemes, self._ping, head_start=self._head_start)
        base = f"{URL(answer.url, encoded=True).scheme}://{self.registry}"
        self._tokens.base = base
        self._tokens.challenged(parse_challenges(answer.all("WWW-Authenticate")), demanded=answer.status == 401)
        self._route = self._wire.route(URL(base, encoded=True))
        self._base = base
        return base, self._route

    async def _ping(self, scheme: str) -> Answer:
        url = f"{scheme}://{self.registry}/v2/"
        call = Call("GET", url, None, self._extra, b"", (200, 401), _LARGEST_ERROR, kind="ping")
        call.pinging = True
        return await self._perform(call)

    async def _ask_token_service(self, request: TokenRequest) -> bytes:
        headers = {"Authorization": request.authorization} if request.authorization else {}
        if request.form:
            headers.update(_FORM)
        call = Call(request.method, request.url, None, headers, request.form, (200,), _LARGEST_TOKEN, kind="token")
        return (await self._perform(call)).body
