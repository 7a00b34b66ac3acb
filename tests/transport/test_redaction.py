"""No secret in any trace, error or repr."""

from __future__ import annotations

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import AsyncraneError, RegistryError
from asyncrane.transport import failure, pull_scope
from asyncrane.transport.redaction import bare_url, scrubbed, shown_headers, shown_url
from tests.transport.conftest import OpenPool, Serve
from tests.transport.server import Guarded, fine, take

PULL = (pull_scope("x"),)
SECRETS = ["hunter2", "bWU6aHVudGVyMg", "secret-token", "signature-xyz", "meta-secret", "refresh-secret"]


@pytest.mark.parametrize("credential", [Credential("me", "hunter2"), Credential(identity_token="refresh-secret")])
async def test_the_trace_tells_everything_but_secrets(
    serve: Serve, open_pool: OpenPool, credential: Credential
) -> None:
    """C6: the full log of a run with tokens, redirects, retries and failures."""
    storage = await serve(fine)
    registry, left = Guarded(), 1

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal left
        if request.path == "/token" and request.method == "POST":
            await take(request)
            return web.json_response({"access_token": "secret-token-p", "refresh_token": "refresh-secret"})
        if "Authorization" not in request.headers or request.path == "/token":
            return await registry(request)
        if request.path.endswith("/blobs/1"):
            location = f"{storage.url}/data?X-Amz-Signature=signature-xyz&n=5"
            return web.Response(status=307, headers={"Location": location, "Set-Cookie": "session=secret-token"})
        if left:
            left -= 1
            return web.Response(status=503)
        echo = request.headers["Authorization"]
        return web.Response(status=400, text=f"bad {echo} for signature?", headers={"X-Echo": "secret-token"})

    server = await serve(answering)
    lines: list[str] = []
    pool = await open_pool(trace=lines.append)
    origin = pool.origin(server.address, FixedKeychain(credential, headers={"X-Meta": "meta-secret"}))
    await origin.request("GET", "/v2/x/blobs/1", scopes=PULL)
    with pytest.raises(RegistryError) as caught:
        await origin.request("GET", "/v2/x/manifests/1?state=signature-xyz", scopes=PULL)
    log = "\n".join(lines)
    for text in (log, str(caught.value), repr(caught.value), repr(origin), repr(pool), repr(await origin.token(PULL))):
        assert not [secret for secret in SECRETS if secret in text]
    assert f"--> GET {server.url}/v2/" in log
    assert "Authorization: <redacted>" in log
    assert f"{storage.url}/data?X-Amz-Signature=<redacted>&n=5" in log
    assert "--- again in" in log
    assert "<-- 400 GET" in log
    assert str(caught.value) == f"GET {server.url}/v2/x/manifests/1: 400 Bad Request: bad <redacted> for signature?"


async def test_connection_failures_show_no_query(serve: Serve, open_pool: OpenPool, free_port: int) -> None:
    server = await serve(fine)
    pool = await open_pool(retries=0)
    with pytest.raises(AsyncraneError) as caught:
        await pool.origin(server.address, FixedKeychain()).request(
            "GET", f"http://me:hunter2@127.0.0.1:{free_port}/data?sig=signature-xyz#hunter2"
        )
    assert str(caught.value) == f"GET http://127.0.0.1:{free_port}/data: no connection: connection refused"


def test_urls_lose_users_queries_and_fragments() -> None:
    url = "https://me:pw@h:5000/a%2Fb?sig=xyz&digest=sha256:1&flag#frag"
    assert bare_url(url) == "https://h:5000/a%2Fb"
    assert shown_url(url) == "https://h:5000/a%2Fb?sig=<redacted>&digest=sha256:1&flag"


def test_headers_nobody_knows_are_hidden() -> None:
    shown = shown_headers({"Accept": "*/*", "X-Api-Key": "k", "Authorization": "Bearer t", "Location": "/up?_state=s"})
    assert shown == ["Accept: */*", "X-Api-Key: <redacted>", "Authorization: <redacted>", "Location: /up"]


@given(st.binary(max_size=300), st.sampled_from(["application/json", "text/plain", "text/html", ""]))
def test_an_error_is_one_short_line_whatever_the_body(body: bytes, kind: str) -> None:
    message = str(failure.of_answer("GET", "https://h/x?sig=1", 500, {"Content-Type": kind}, body))
    assert message.startswith("GET https://h/x: 500 Internal Server Error")
    assert message.isprintable()
    assert len(message) < 300


@given(st.text(max_size=100))
def test_scrubbed_text_is_one_line(text: str) -> None:
    assert scrubbed(text).isprintable()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"errors":[{"code":"DENIED","message":"no","detail":[{"Type":"repository"}]}]}', ": DENIED: no"),
        (b'{"errors":[{"code":"A"},{"message":"b"},7]}', ": A; b"),
        (b'{"errors":null}', ""),
        (b'{"details":"incorrect username or password"}', ": incorrect username or password"),
        (b'{"error":"invalid_grant","error_description":"expired"}', ": invalid_grant: expired"),
        (b"<html><body>go away</body></html>", ""),
        (b"Your authorization token\nhas expired.", ": Your authorization token has expired."),
        (b"[1]", ""),
        (b"", ""),
    ],
)
def test_error_bodies_in_all_their_forms(body: bytes, message: str) -> None:
    error = failure.of_answer("GET", "https://h/x", 403, {}, body)
    assert str(error) == f"GET https://h/x: 403 Forbidden{message}"
