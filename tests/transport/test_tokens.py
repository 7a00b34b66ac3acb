"""Tokens: asked for once, kept while they last, renewed for what is demanded; no body is sent twice for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel
import pytest

from asyncrane.auth.credentials import Credential
from asyncrane.errors import Unauthorized
from asyncrane.transport import Body
from tests.transport.conftest import OpenPool, Serve
from tests.transport.origins import PULL, PUSH, origin_of
from tests.transport.server import Guarded


async def test_64_first_requests_make_one_ping_and_one_token_request_a4(serve: Serve, open_pool: OpenPool) -> None:
    """A4: single flight, for what everybody needs before anybody can begin."""
    registry = Guarded()
    registry.pause = 0.02
    server = await serve(registry)
    origin = await origin_of(server, open_pool)
    async with anyio.create_task_group() as group:
        for number in range(64):
            group.start_soon(lambda n: origin.request("GET", f"/v2/x/manifests/{n}", scopes=PULL), number)
    assert len(server.of("/v2/")) == 1
    assert len(server.of("/token")) == 1
    assert len(server.asked) == 66
    assert origin.statistics().requests["GET manifests"] == 64


async def test_a_cancelled_first_request_does_not_take_the_others_with_it(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()
    registry.pause = 0.05
    server = await serve(registry)
    origin = await origin_of(server, open_pool)
    await origin.base()
    answers = []

    async def ask() -> None:
        answers.append(await origin.request("GET", "/v2/x/manifests/1", scopes=PULL))

    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def doomed() -> None:
            with first:
                await ask()

        group.start_soon(doomed)
        while not server.of("/token"):
            await anyio.lowlevel.checkpoint()
        group.start_soon(ask)
        group.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        first.cancel()
    assert [answer.status for answer in answers] == [200, 200]


async def test_tokens_are_kept_per_scopes_until_shortly_before_their_end(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded(life=300.0)
    server = await serve(registry)
    origin = await origin_of(server, open_pool)
    for _ in range(3):
        await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert len(server.of("/token")) == 1
    token = await origin.token(PULL)
    assert token.expires - token.usable_until == pytest.approx(5.0)
    assert origin._tokens.ready(PULL, token.usable_until - 0.01) is token
    assert origin._tokens.ready(PULL, token.usable_until) is None
    token.usable_until = 0.0
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert len(server.of("/token")) == 2
    await origin.request("GET", "/v2/x/manifests/1", scopes=PUSH)
    assert len(server.of("/token")) == 3


async def test_a_thousand_renewals_ask_with_the_same_url_c2(serve: Serve, open_pool: OpenPool) -> None:
    """C2: scopes do not pile up, whatever is demanded."""
    registry = Guarded(life=0.0001)
    registry.demands = "repository:x:pull,push repository:y:pull"
    server = await serve(registry)
    origin = await origin_of(server, open_pool)
    for _ in range(340):
        with pytest.raises(Unauthorized):
            await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    lengths = {len(asked.raw_path) for asked in server.of("/token")[1:]}
    assert len(server.of("/token")) >= 500
    assert len(lengths) == 1


async def test_a_missing_expires_in_is_sixty_seconds_from_receipt_c2(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded(expires_in=False)
    origin = await origin_of(await serve(registry), open_pool)
    token = await origin.token(PULL)
    assert token.expires - token.obtained == pytest.approx(60.0)
    assert token.fresh_until - token.obtained == pytest.approx(45.0)


async def test_a_renewed_token_covers_what_the_registry_demands(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded()
    server = await serve(registry)
    origin = await origin_of(server, open_pool)
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    registry.given.clear()
    registry.demands = "repository:x:push,pull"
    await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    queries = [parse_qs(asked.raw_path.partition("?")[2]) for asked in server.of("/token")]
    assert [query["scope"] for query in queries] == [["repository:x:pull"], ["repository:x:pull,push"]]
    assert len(server.of("/v2/x/manifests/1")) == 3


async def test_a_token_that_is_refused_twice_is_an_error_after_one_renewal(serve: Serve, open_pool: OpenPool) -> None:
    registry = Guarded(life=0.0)
    server = await serve(registry)
    origin = await origin_of(server, open_pool)
    with pytest.raises(Unauthorized, match=r"manifests/1: 401 Unauthorized: UNAUTHORIZED: .*no credentials for 127"):
        await origin.request("GET", "/v2/x/manifests/1", scopes=PULL)
    assert len(server.of("/v2/x/manifests/1")) == 2
    assert len(server.of("/token")) == 2


async def test_a_finished_body_is_never_sent_again_c1(serve: Serve, open_pool: OpenPool) -> None:
    """C1: the caller decides, with a new token, whether there is anything to send again."""
    registry = Guarded(life=300)
    server = await serve(registry)
    origin = await origin_of(server, open_pool, Credential("u", "p"))
    await origin.token(PUSH)
    registry.given.clear()
    opened = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal opened
        opened += 1
        yield b"x" * 100_000
        yield b"y" * 100_000

    with pytest.raises(Unauthorized):
        await origin.request("PATCH", "/v2/x/blobs/uploads/1", scopes=PUSH, body=Body(content, 200_000), expect=(202,))
    assert opened == 1
    await origin.request("PUT", "/v2/x/blobs/uploads/1?digest=d", scopes=PUSH, expect=(201,))
    assert [len(body) for body in registry.bodies if body] == [200_000]
    assert len(server.of("/token")) == 2


async def test_a_stream_begins_only_with_a_quarter_of_the_tokens_life_left_c1(
    serve: Serve, open_pool: OpenPool
) -> None:
    registry = Guarded(life=100.0)
    server = await serve(registry)
    origin = await origin_of(server, open_pool)

    async def content() -> AsyncIterator[bytes]:
        yield b"abc"

    token = await origin.token(PUSH)
    assert token.expires - token.fresh_until == pytest.approx(25.0)
    token.fresh_until = 0.0
    assert await origin.token(PUSH) is token
    await origin.request("PUT", "/v2/x/blobs/uploads/1", scopes=PUSH, body=Body(content, 3), expect=(201,))
    assert len(server.of("/token")) == 2
    assert await origin.token(PUSH) is not token
