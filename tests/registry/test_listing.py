"""Lists are complete, or an error (H4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncrane.errors import AsyncraneError, NotFound, ServerFault
from asyncrane.registry import listing
from asyncrane.server import Call, Handler, Reply
from asyncrane.testing import FaultyRegistry, fault, status
from asyncrane.testing.images import random_image
from tests.registry.conftest import Open

TAGS = [f"v{number:04}" for number in range(2500)]
SIZE = 1000

Pager = Callable[[Call, int], dict[str, str]]


def page_of(call: Call, tags: list[str], size: int) -> list[str]:
    last = call.ask("last") or call.ask("next_page")
    start = tags.index(last) + 1 if last in tags else 0
    return tags[start : start + size]


def relative(call: Call, at: int) -> dict[str, str]:
    return {"Link": f'</v2/app/tags/list?last={TAGS[at]}&n=1000>; rel="next"'}


def absolute(call: Call, at: int) -> dict[str, str]:
    return {"Link": f"<{call.base}/v2/app/tags/list?last={TAGS[at]}>; rel=next"}


def token(call: Call, at: int) -> dict[str, str]:
    return {
        "Link": f'</v2/app/tags/list>; rel="first", </v2/app/tags/list?next_page={TAGS[at]}>; title="a, b"; rel="next"'
    }


def nothing(call: Call, at: int) -> dict[str, str]:
    return {}


def serve(registry: FaultyRegistry, pager: Pager, *, size: int = SIZE) -> None:
    async def effect(call: Call, handler: Handler) -> Reply:
        page = page_of(call, TAGS, size)
        more = bool(page) and page[-1] != TAGS[-1]
        return Reply.of_json({"tags": page}, headers=pager(call, TAGS.index(page[-1])) if more else {})

    registry.faults.add(fault("pages", effect, kind="tags"))


@pytest.mark.parametrize("pager", [relative, absolute, token, nothing])
async def test_every_style_of_pages_gives_every_tag(registry: FaultyRegistry, remote: Open, pager: Pager) -> None:
    """H4: the last one knows only ``last``, and says nothing."""
    serve(registry, pager)
    assert [tag async for tag in (await remote()).tags()] == TAGS
    assert len(registry.requests(kind="tags")) == 3


async def test_a_registry_without_pages_is_asked_once(registry: FaultyRegistry, remote: Open) -> None:
    """H4."""
    serve(registry, nothing, size=len(TAGS))
    assert [tag async for tag in (await remote()).tags()] == TAGS
    assert len(registry.requests(kind="tags")) == 1


async def test_exactly_one_page_without_more_is_the_whole_list(registry: FaultyRegistry, remote: Open) -> None:
    """H4: this registry does not know ``last`` either."""

    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply.of_json({"tags": TAGS[:SIZE]})

    registry.faults.add(fault("one page", effect, kind="tags"))
    assert [tag async for tag in (await remote()).tags()] == TAGS[:SIZE]
    assert [request.query for request in registry.requests(kind="tags")] == ["n=1000", "n=1000&last=v0999", "n=1"]


@pytest.mark.parametrize("total", [SIZE, SIZE + 1])
async def test_a_full_page_that_nothing_leads_on_from_is_an_error(
    registry: FaultyRegistry, remote: Open, total: int
) -> None:
    """H4: it has pages, so that there may be more; who prunes by a short list deletes what is there."""

    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply.of_json({"tags": TAGS[: min(total, int(call.ask("n")))]})

    registry.faults.add(fault("no way on", effect, kind="tags"))
    with pytest.raises(ServerFault, match="the list may not be complete"):
        _ = [tag async for tag in (await remote()).tags()]


@pytest.mark.parametrize(
    "pager",
    [
        lambda call, at: {"Link": '</v2/app/tags/list?n=1000>; rel="next"'},
        lambda call, at: {"Link": f'</v2/app/tags/list?n=1000&again={at}x{len(call.raw_query)}>; rel="next"'},
        lambda call, at: {"Link": '<http://elsewhere.example/v2/app/tags/list?last=x>; rel="next"'},
    ],
)
async def test_pages_that_lead_nowhere_are_an_error(registry: FaultyRegistry, remote: Open, pager: Pager) -> None:
    """H4: round and round, or to another host; never a short list."""
    serve(registry, pager)
    with pytest.raises(AsyncraneError):
        _ = [tag async for tag in (await remote()).tags()]
    assert len(registry.requests(kind="tags")) <= 2


async def test_two_pages_that_take_turns_are_an_error(registry: FaultyRegistry, remote: Open) -> None:
    """H4: however the registry dresses up the links, it is not asked for ever."""

    async def effect(call: Call, handler: Handler) -> Reply:
        turn = len(registry.requests(kind="tags"))
        page = TAGS[:SIZE] if turn % 2 else TAGS[SIZE : 2 * SIZE]
        return Reply.of_json({"tags": page}, headers={"Link": f'</v2/app/tags/list?next_page={turn}>; rel="next"'})

    registry.faults.add(fault("turns", effect, kind="tags"))
    with pytest.raises(ServerFault):
        _ = [tag async for tag in (await remote()).tags()]
    assert len(registry.requests(kind="tags")) == 3


async def test_a_page_that_fails_fails_the_list(registry: FaultyRegistry, remote: Open) -> None:
    """H4."""
    registry.faults.add(status(404, kind="tags", nth=2))
    serve(registry, relative)
    with pytest.raises(NotFound):
        _ = [tag async for tag in (await remote()).tags()]


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"tags": None}, []), ({"name": "app"}, []), ({"tags": ["a", None, "b", "sha256:0"]}, ["a", "b", "sha256:0"])],
)
async def test_odd_lists_are_read(registry: FaultyRegistry, remote: Open, body: object, expected: list[str]) -> None:
    """Nexus sends nulls, Artifactory digests."""

    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply.of_json(body)

    registry.faults.add(fault("odd", effect, kind="tags"))
    assert [tag async for tag in (await remote()).tags()] == expected


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"tags": "a"}', b'{"errors": [{"code": "UNKNOWN"}]}'])
async def test_what_is_no_list_is_an_error(registry: FaultyRegistry, remote: Open, body: bytes) -> None:
    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply(200, {"Content-Type": "application/json"}, body)

    registry.faults.add(fault("no list", effect, kind="tags"))
    with pytest.raises(AsyncraneError):
        _ = [tag async for tag in (await remote()).tags()]


async def test_one_request_tells_what_a_destination_has(registry: FaultyRegistry, remote: Open) -> None:
    repository = await remote()
    assert await repository.tags_page() is None
    registry.put_manifest("app", random_image().manifest, "a", "b")
    assert await repository.tags_page(writing=True) == (("a", "b"), True)
    assert len(registry.requests(kind="tags")) == 2
    serve(registry, relative)
    found = await repository.tags_page()
    assert found == (tuple(TAGS[:SIZE]), False)


@pytest.mark.parametrize("style", ["relative", "absolute", "token", "last", "all at once", "circle"])
async def test_every_style_of_pages_gives_the_whole_catalog_or_an_error(
    registry: FaultyRegistry, remote: Open, style: str
) -> None:
    """H4."""
    names = [f"team/app{number:04}" for number in range(2500)]

    async def effect(call: Call, handler: Handler) -> Reply:
        if style == "all at once":
            return Reply.of_json({"repositories": names})
        page = page_of(call, names, SIZE)
        if style == "last" or page[-1] == names[-1]:
            return Reply.of_json({"repositories": page})
        links = {
            "relative": f"/v2/_catalog?n=1000&last={page[-1]}",
            "absolute": f"{call.base}/v2/_catalog?last={page[-1]}",
            "token": f"/v2/_catalog?next_page={page[-1]}",
            "circle": f"/v2/_catalog?n=1000&again={len(registry.log)}",
        }
        return Reply.of_json({"repositories": page}, headers={"Link": f'<{links[style]}>; rel="next"'})

    registry.faults.add(fault("catalog", effect, kind="catalog"))
    origin = (await remote()).origin
    if style == "circle":
        with pytest.raises(ServerFault):
            _ = [name async for name in listing.catalog(origin)]
    else:
        assert [name async for name in listing.catalog(origin)] == names


async def test_a_catalog_is_complete(remote: Open) -> None:
    async with FaultyRegistry(page=7) as registry:
        names = sorted(f"team/app{number}" for number in range(30))
        for name in names:
            registry.put_manifest(name, random_image(name).manifest, "1")
        origin = (await remote(of=registry)).origin
        assert [name async for name in listing.catalog(origin)] == names
