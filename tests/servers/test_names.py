"""Tags and repositories of a real registry: listed whole, page by page, and taken away."""

from __future__ import annotations

import pytest

from asyncrane import NotFound, RegistryError, catalog, copy, delete, tag, tags, untag
from asyncrane.oci.reference import Repository
from asyncrane.registry import listing
from asyncrane.testing import FaultyRegistry
from tests.promises.images import put
from tests.servers.conftest import PROGRAMS, Server, on
from tests.servers.samples import made

MANY = [f"v{number:03}" for number in range(105)]


@on(*PROGRAMS)
async def test_every_tag_is_listed(server: Server, home: FaultyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """H4: in one page, in three, or as many as the registry likes."""
    name, there = put(home, "app", made("image"), "first"), server.name()
    async with server.session() as session:
        await copy(session, name, f"{there}:{MANY[0]}")
        await tag(session, f"{there}:{MANY[0]}", *MANY[1:])
        for page in (1000, 50):
            monkeypatch.setattr(listing, "_PAGE", page)
            assert sorted([found.tag or "" async for found in tags(session, there)]) == MANY


@on(*PROGRAMS)
async def test_every_repository_is_in_the_catalog(
    server: Server, home: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H4: page by page; crane's registry has one page only, in no order."""
    name = put(home, "app", made("image"), "v1")
    wanted = {Repository.parse(server.name(words)) for words in ("a", "a/b", "z")}
    async with server.session() as session:
        for repository in wanted:
            await copy(session, name, f"{repository}:v1")
        for page in (1000, 1000 if server.kind == "crane" else 2):
            monkeypatch.setattr(listing, "_PAGE", page)
            found = [repository async for repository in catalog(session, server.address)]
            assert len(found) == len(set(found))
            assert wanted <= set(found)


async def test_what_is_not_there_is_not_found(server: Server) -> None:
    name = server.name()
    async with server.session() as session:
        with pytest.raises(NotFound):
            await copy(session, f"{name}:v1", f"{server.name()}:v1")
        with pytest.raises(NotFound):
            assert [found async for found in tags(session, name)] == []


@on(*PROGRAMS)
async def test_a_tag_goes_alone_or_the_registry_refuses_and_nothing_goes(server: Server, home: FaultyRegistry) -> None:
    """K9: never the image with all its tags in place of one of them."""
    sample = made("image")
    name, there = put(home, "app", sample, "v1"), server.name()
    async with server.session() as session:
        await copy(session, name, f"{there}:one", f"{there}:two")
        if server.powers.untags:
            await untag(session, f"{there}:one")
        else:
            with pytest.raises(RegistryError, match=r"does not delete a tag alone .* deletes the manifest with all"):
                await untag(session, f"{there}:one")
        left = {"two"} if server.powers.untags else {"one", "two"}
        assert {found.tag async for found in tags(session, there)} == left
        assert (await session.remote(Repository.parse(there)).resolve("two")).digest == sample.digest


@on(*PROGRAMS)
async def test_a_manifest_goes_with_its_tags_by_digest(server: Server, home: FaultyRegistry) -> None:
    sample, other = made("image"), made("docker-image")
    there = server.name()
    async with server.session() as session:
        await copy(session, put(home, "app", sample, "v1"), f"{there}:one", f"{there}:two")
        await copy(session, put(home, "app", other, "v2"), f"{there}:other")
        gone = await delete(session, f"{there}@{sample.digest}")
        assert set(gone.tags or ()) == {"one", "two"}
        remote = session.remote(Repository.parse(there))
        with pytest.raises(NotFound):
            await remote.resolve(str(sample.digest))
        if server.powers.forgets:
            with pytest.raises(NotFound):
                await remote.resolve("two")
        assert (await remote.resolve("other")).digest == other.digest
