"""Requests to the embedded registry: whatever is asked, it is an answer and never a failure of the registry's own."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.server import Auth, BasicAuth, MemoryStorage, PlainUsers, TokenAuth
from asyncrane.server.api import Registry
from asyncrane.server.call import Call
from asyncrane.server.routes import find_route
from asyncrane.testing.images import random_image, random_index
from tests.fuzz.hostile import changed, examples, texts

USERS = PlainUsers({"me": "hunter2"})
BASIC = f"Basic {base64.b64encode(b'me:hunter2').decode()}"
EMPTY = str(Digest.of(b""))
LONG = "9" * 5000
SAMPLE, INDEX = random_image("requests"), random_index("requests")
PARTS = [
    "/v2/",
    "a",
    "/",
    "..",
    "blobs",
    "manifests",
    "tags/list",
    "referrers",
    "uploads/",
    "_catalog",
    EMPTY,
    "/token",
    "x",
]
paths = st.lists(st.sampled_from(PARTS) | texts, max_size=6).map("".join) | st.sampled_from(
    ["/v2/a/tags/list", "/v2/a/manifests/x", f"/v2/a/blobs/{EMPTY}", "/v2/a/blobs/uploads/", "/v2/_catalog", "/token"]
)
words = texts | st.sampled_from([EMPTY, LONG, "0-0", "a", "sha512", "repository:a:pull", "true", "1", f"0-{LONG}"])
queries = st.dictionaries(
    st.sampled_from(["digest", "mount", "from", "n", "last", "tag", "scope", "artifactType", "digest-algorithm"]),
    st.lists(words, min_size=1, max_size=2).map(tuple),
    max_size=3,
)
shown = st.sampled_from([BASIC, "Bearer x.y", "Basic !", "Bearer", "Basic w6k6w6k=", "Bearer \u00e9.\u00e9", ""])
headers = st.dictionaries(
    st.sampled_from(["Range", "Content-Range", "If-Range", "Content-Type", "If-None-Match"]), words, max_size=2
)
METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "X"])


async def answered(auth: Auth | None, method: str, path: str, body: bytes, **more: Any) -> int:
    """The status of the answer, every byte of which was there to be sent."""

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    registry = Registry(MemoryStorage(), auth=auth)
    for content in (b"", *SAMPLE.blobs.values()):
        incoming = registry.storage.incoming()
        incoming.write(content)
        registry.storage.keep(incoming, "a", Digest.of(content))
    for manifest in SAMPLE.manifests:
        registry.storage.put_manifest("a", manifest)
    query = more.pop("query", {})
    route = find_route(method, path, mounting="mount" in query)
    reply = await registry.answer(
        Call(route=route, method=method, path=path, query=query, body=pieces(), length=len(body), **more)
    )
    if not isinstance(reply.body, bytes):
        async for chunk in reply.body.chunks():
            assert chunk
    for value in reply.headers.values():
        assert value.isprintable(), reply.headers
    return reply.status


@examples(100)
@given(st.sampled_from([None, "basic", "token"]), METHODS, paths, queries, headers, shown, st.binary(max_size=40))
async def test_any_request_has_an_answer(
    kind: str | None,
    method: str,
    path: str,
    query: dict[str, tuple[str, ...]],
    said: dict[str, str],
    authorization: str,
    body: bytes,
) -> None:
    auth: Auth | None = BasicAuth(USERS) if kind == "basic" else TokenAuth(USERS) if kind == "token" else None
    sent = CIMultiDict({**said, "Authorization": authorization} if authorization else said)
    status = await answered(auth, method, path, body, query=query, headers=sent)
    assert 200 <= status < 500
    if kind == "basic" and authorization != BASIC:
        assert status in (401, 404)


MANIFESTS = [json.loads(SAMPLE.manifest.body), json.loads(INDEX.manifest.body)]


@examples(60)
@given(changed(MANIFESTS), st.sampled_from([*sorted(media.MANIFESTS), "", "x/y"]))
async def test_any_manifest_is_stored_or_refused(body: bytes, kind: str) -> None:
    status = await answered(None, "PUT", "/v2/a/manifests/x", body, headers=CIMultiDict({"Content-Type": kind}))
    assert status in (201, 400, 404)


@examples(40)
@given(
    st.dictionaries(st.sampled_from(["grant_type", "refresh_token", "username", "scope", "service"]), words, max_size=4)
)
async def test_any_form_is_a_token_or_refused(form: dict[str, str]) -> None:
    body = "&".join(f"{name}={value}" for name, value in form.items()).encode(errors="replace")
    assert await answered(TokenAuth(USERS), "POST", "/token", body) in (200, 400, 401)
