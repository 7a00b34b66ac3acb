"""What is asked for is checked before anything looks for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository
from asyncrane.server import Refused
from asyncrane.server.routes import KINDS, check_route, find_route
from tests.server.client import Client

DIGEST = Digest.of(b"")


async def test_the_ping_says_which_api_this_is(client: Client) -> None:
    for target in ("/v2/", "/v2"):
        answer = await client.ask("GET", target)
        assert (answer.status, answer.json) == (200, {})
        assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize(
    "name",
    [
        "A",
        "a//b",
        "../b",
        "a/..",
        "a/%2e%2e/b",
        "%2Fetc",
        "a%00b",
        "a/_blobs",
        "-a",
        "a:b",
        "x" * 300,
        "a/./b",
        "%C3%A9",
    ],
)
async def test_a_name_that_is_none_is_refused_everywhere(client: Client, name: str) -> None:
    for method, rest in (
        ("GET", "tags/list"),
        ("PUT", "manifests/v1"),
        ("GET", f"blobs/{DIGEST}"),
        ("POST", "blobs/uploads/"),
        ("PATCH", "blobs/uploads/1"),
        ("GET", f"referrers/{DIGEST}"),
    ):
        answer = await client.ask(method, f"/v2/{name}/{rest}", data=b"{}" if method == "PUT" else None)
        assert (answer.status, answer.code) == (400, "NAME_INVALID"), (method, name)


@pytest.mark.parametrize("digest", ["sha256:abc", "sha256:" + "g" * 64, "md5:" + "0" * 32, "x", "sha256:..%2f..%2fx"])
async def test_a_digest_that_is_none_is_refused(client: Client, digest: str) -> None:
    for target in (f"blobs/{digest}", f"referrers/{digest}"):
        answer = await client.ask("GET", f"/v2/a/b/{target}")
        # A slash, encoded or not, ends the digest: what is left is no path of the API.
        assert (answer.status, answer.code) in ((400, "DIGEST_INVALID"), (404, "NAME_UNKNOWN"))


@pytest.mark.parametrize("tag", [".hidden", "-x", "a" * 129, "a%20b", "%C3%A9", "a+b", "%2e%2e"])
async def test_a_tag_that_is_none_cannot_be_pushed_and_is_not_found(client: Client, tag: str) -> None:
    put = await client.ask("PUT", f"/v2/a/b/manifests/{tag}", data=b"{}")
    get = await client.ask("GET", f"/v2/a/b/manifests/{tag}")
    assert (put.status, put.code) == (400, "TAG_INVALID")
    assert (get.status, get.code) == (404, "MANIFEST_UNKNOWN")


async def test_a_method_nobody_answers_is_unsupported(client: Client) -> None:
    for method, target in (("PUT", "/v2/"), ("POST", "/v2/_catalog"), ("PUT", f"/v2/a/b/blobs/{DIGEST}")):
        answer = await client.ask(method, target)
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")


@pytest.mark.parametrize("target", ["/", "/v1/", "/v2/a", "/v2/a/b/c", "/v3/a/tags/list", "//v2/", "/v2/a/b/blobs/"])
async def test_any_other_path_is_not_found(client: Client, target: str) -> None:
    answer = await client.ask("GET", target)
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


async def test_there_is_no_token_service_without_authentication(client: Client) -> None:
    assert (await client.ask("GET", "/token")).status == 404


@given(st.text(max_size=60) | st.from_regex(r"/v2/[a-z./%_-]{0,20}/(blobs|manifests|tags|referrers)/[a-z:.]{0,20}"))
def test_whatever_passes_the_check_names_a_repository(path: str) -> None:
    """No text reaches a storage as a repository that is not one."""
    route = find_route("GET", path)
    assert route.kind in KINDS
    try:
        check_route(route, "GET", path)
    except Refused:
        return
    if route.repository:
        assert Repository.parse(f"localhost/{route.repository}").path == route.repository
