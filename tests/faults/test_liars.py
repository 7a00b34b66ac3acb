"""Registries that lie: what they say is refused, or does no harm; soon, in little memory, with one clear error."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from asyncrane import ContentError, ServerFault, Session, catalog, export_to, validate
from asyncrane.errors import AsyncraneError
from asyncrane.oci.manifest import Manifest
from asyncrane.server.call import Around, Call, Handler
from asyncrane.server.reply import Reply
from asyncrane.testing import FaultyRegistry, fault, set_headers
from asyncrane.testing.lies import claim_mount, more_pages
from tests.faults.liars import LIES
from tests.faults.table import COLUMNS
from tests.faults.world import NEW, RUN, World, two_registries
from tests.promises.images import put

ALL_CELLS = os.environ.get("ASYNCRANE_FAULTS") == "all"
MOST_REQUESTS = 260
MOST_BYTES = 64_000_000
MOST_SENT = 5 * NEW.size


async def _validate(world: World, options: Mapping[str, Any]) -> None:
    async with world.session(**options) as session:
        for verdict in await validate(session, remotes=[f"{world.source.address}/app:v1"]):
            if not verdict.passed:
                raise ContentError(verdict.problem.partition("\n")[0])


async def _export(world: World, options: Mapping[str, Any]) -> None:
    async with world.session(**options) as session:
        await export_to(session, f"{world.source.address}/app:v1", world.home / "files" / "image.tar")


ALL: Mapping[str, Callable[[World, Mapping[str, Any]], Awaitable[None]]] = {
    **RUN,
    "validate": _validate,
    "export": _export,
}


def told() -> Iterator[object]:
    """Every lie with every operation that is told it, or (``ASYNCRANE_FAULTS`` is not ``all``) with two of these."""
    for number, (name, lie) in enumerate(LIES.items()):
        count = len(lie.operations)
        chosen = range(count) if ALL_CELLS else sorted({number % count, (number + (count + 1) // 2) % count})
        for operation in (lie.operations[at] for at in chosen):
            cell = [pytest.mark.cell(name, operation, "lie")] if operation in COLUMNS else []
            yield pytest.param(name, operation, marks=cell, id=f"{name}-{operation}")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files would be seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.mark.parametrize(("name", "operation"), [*told()])
async def test_a_lie_is_refused_or_does_no_harm(tmp_path: Path, name: str, operation: str) -> None:
    """No tag names what is not there, nothing is left of what was begun, and nobody is asked or sent without end."""
    lie = LIES[name]
    async with two_registries(tmp_path) as world:
        lie.tell(world)
        error = None
        try:
            await ALL[operation](world, {"retries": 1})
        except AsyncraneError as exc:
            error = exc
        if operation in lie.unharmed:
            assert error is None
            assert operation not in RUN or lie.image is not NEW or world.arrived(operation) == []
        else:
            assert isinstance(error, ContentError if type(error) is ContentError else lie.errors), repr(error)
            assert len(str(error).splitlines()) == 1
            assert len(str(error)) < 1000
            assert world.untouched(landed=lie.landed) == []
        assert world.destination.open_uploads <= lie.sessions
        for registry in (world.source, world.destination):
            assert len(registry.log) <= MOST_REQUESTS
            assert sum(request.response_bytes for request in registry.log) <= MOST_BYTES
            assert sum(request.request_bytes for request in registry.log) <= MOST_SENT


def _itself(call: Call, count: int) -> str:
    return f"{call.path}?{call.raw_query}"


def _onwards(call: Call, count: int) -> str:
    return f"{call.path}?next={count}"


def _elsewhere(call: Call, count: int) -> str:
    return f"http://localhost:1{call.path}"


def _empty(call: Call, handler: Handler) -> Awaitable[Reply]:
    return _listed([])


def _new(call: Call, handler: Handler) -> Awaitable[Reply]:
    return _listed([f"name{call.raw_query[5:]}"])


async def _listed(names: list[str]) -> Reply:
    return Reply.of_json({"repositories": names})


ENDLESS: Mapping[str, tuple[Callable[[Call, int], str], Around | None]] = {
    "itself": (_itself, None),
    "again": (_onwards, None),
    "another host": (_elsewhere, None),
    "empty": (_onwards, _empty),
    **({"new": (_onwards, _new)} if ALL_CELLS else {}),
}


@pytest.mark.parametrize("style", ENDLESS)
async def test_a_catalog_without_end_is_an_error(style: str) -> None:
    """One that has new names on every page is given up after 10,000 pages."""
    link, page = ENDLESS[style]
    async with FaultyRegistry() as registry:
        put(registry, "app", NEW, "v1")
        registry.faults.add(more_pages(link, kind="catalog"))
        if page is not None:
            registry.faults.add(fault("page", page, kind="catalog"))
        async with Session() as session:
            with pytest.raises(ServerFault, match=r"catalog: "):
                _ = [name async for name in catalog(session, registry.address)]
        assert len(registry.log) <= (10_002 if style == "new" else 150)


async def test_what_a_link_may_look_like_takes_no_time() -> None:
    """A megabyte of what could begin a link, and never does."""
    headers = dict.fromkeys(map("".join, product(*zip("link", "LINK", strict=True))), "<" * 8000)
    async with FaultyRegistry() as registry:
        put(registry, "app", NEW, "v1")
        registry.faults.add(set_headers(headers, kind="catalog"))
        async with Session() as session:
            assert [found.path async for found in catalog(session, registry.address)] == ["app"]


async def test_a_registry_that_believes_itself_is_found_out_by_validating(tmp_path: Path) -> None:
    """It claims to have mounted what it has not, and takes a manifest that names it: only reading shows that."""
    async with two_registries(tmp_path) as world:
        destination = world.destination

        async def believe(call: Call, handler: Handler) -> Reply:
            manifest = Manifest.read(await call.read(1 << 20) or b"")
            destination.put_manifest("app", manifest, call.route.identifier)
            return Reply(201, {"Docker-Content-Digest": manifest.digest})

        destination.faults.add(claim_mount(), fault("believe", believe, kind="manifest-put"))
        await RUN["cp"](world, {})
        async with world.session(retries=0) as session:
            (verdict,) = await validate(session, remotes=[f"{destination.address}/app:v1"])
        assert not verdict.passed
        assert "404" in verdict.problem
