"""Every kind of image goes to a real registry, to another repository of it, and comes back byte for byte."""

from __future__ import annotations

from asyncrane import Pair, Platform, copy, copy_all
from asyncrane.oci.reference import Repository
from asyncrane.operations.trees import copy_tree
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import random_image, random_index
from tests.promises.images import incomplete, put, tags
from tests.servers.conftest import KINDS as SERVERS
from tests.servers.conftest import PROGRAMS, Server, on, on_each
from tests.servers.samples import KINDS, LARGE, MIB, made


@on_each(
    "kind",
    KINDS,
    [
        *((program, kind) for program in PROGRAMS for kind in KINDS if kind != "large-image"),
        *((server, "index") for server in ("htpasswd", "tls", "nginx-tls", "nginx-cache")),
        ("nginx-limit", "large-image"),
        ("crane", "large-image"),
    ],
)
async def test_every_kind_goes_there_is_mounted_and_comes_back(server: Server, home: FaultyRegistry, kind: str) -> None:
    """Three copies: all bytes go up once, none for the second repository, and what comes back is what went.

    Where nothing is mounted what is large is found all the same: crane's registry has its blobs for all repositories.
    """
    sample = made(kind)
    name = put(home, "app", sample, "v1")
    first, second = server.name(), server.name()
    async with server.session() as session:
        up = await copy(session, name, f"{first}:v1")
        sent = session.statistics()
        assert sent.bytes_written == sample.size
        across = await copy(session, f"{first}:v1", f"{second}:v2")
        done = session.statistics()
        again = 0 if server.powers.mounts else sum(size for size in map(len, sample.blobs.values()) if size < 4 * MIB)
        assert done.blobs_mounted == (len(sample.blobs) if server.powers.mounts else 0)
        assert (done.bytes_read, done.bytes_written) == (sent.bytes_read + again, sent.bytes_written + again)
        down = await copy(session, f"{second}:v2", f"{home.address}/back:v3")
        assert {up.digest, across.digest, down.digest} == {str(sample.digest)}
        there = session.remote(Repository.parse(second))
        assert (await there.manifest("v2")).body == sample.manifest.body
    for manifest in sample.manifests:
        returned = home.get_manifest("back", str(manifest.digest))
        assert returned is not None
        assert returned.body == manifest.body
    assert {digest: home.get_blob("back", digest) for digest in sample.blobs} == sample.blobs


@on_each("kind", ["index", "large-image"], [(server, "index") for server in SERVERS])
async def test_the_same_again_writes_nothing(server: Server, home: FaultyRegistry, kind: str) -> None:
    """A2: one HEAD for the tag, and no byte."""
    name, there = put(home, "app", made(kind), "v1"), f"{server.name()}:v1"
    async with server.session() as session:
        await copy(session, name, there)
    async with server.session() as session:
        outcome = await copy(session, name, there)
        view = server.view(session)
    assert [target.status for target in outcome.targets] == ["equal"]
    assert (view.sent, {key: n for key, n in view.requests.items() if "ping" not in key}) == (0, {"HEAD manifests": 1})


@on_each(
    "way",
    ["put", "patch", "chunks"],
    [
        ("docker-registry", "put"),
        ("docker-registry", "chunks"),
        ("nginx-tls", "patch"),
        ("distribution-3", "chunks"),
        ("crane", "chunks"),
    ],
)
async def test_a_large_layer_goes_in_one_piece_or_in_many(server: Server, home: FaultyRegistry, way: str) -> None:
    """Whole in a PUT, whole in a PATCH, in chunks: every server takes all three, as far as bodies may be so large."""
    sample = random_image(f"{server.kind} {way}", layers=(LARGE,))
    name, there = put(home, "app", sample, "v1"), f"{server.name()}:v1"
    async with server.session() as session:
        origin = session.origin(server.address, writing=True)
        origin.capabilities.upload = way  # type: ignore[assignment]
        await copy(session, name, there)
        patches = server.view(session).requests.get("PATCH uploads", 0)
        await copy(session, there, f"{home.address}/back:v1")
    if not server.powers.limit:
        assert patches == {"put": 0, "patch": 2, "chunks": 1 + -(-LARGE // (4 * MIB))}[way]
    assert incomplete(home) == []
    assert home.get_manifest("back", "v1") == sample.manifest


@on(*PROGRAMS)
async def test_all_tags_of_a_repository_and_all_repositories_of_a_tree(server: Server, home: FaultyRegistry) -> None:
    """``cp -a`` and ``cp -r``, there and back; what repositories share goes up once."""
    shared = random_index("shared by all", layers=(50_000, 1000))
    for repository in ("tree/a", "tree/a/b", "tree/c"):
        put(home, repository, shared, "v1")
        put(home, repository, random_image(repository), "v2", "latest")
    root = server.name("tree")
    async with server.session() as session:
        flat = await copy_all(session, [Pair(f"{home.address}/tree/a", (server.name(),))], all_tags=True)
        deep = await copy_tree(session, f"{home.address}/tree", root)
        written = session.statistics().bytes_written
        back = await copy_tree(session, root, f"{home.address}/copy")
    assert [o.failure for o in (*flat, *deep, *back) if o.failure] == []
    assert (len(flat), len(deep), len(back)) == (3, 9, 9)
    unique = dict(shared.blobs)
    for repository in ("tree/a", "tree/a/b", "tree/c"):
        unique |= random_image(repository).blobs
    if server.powers.mounts:
        assert written == sum(map(len, unique.values()))
    at_home = tags(home)
    assert {n.removeprefix("copy/"): d for n, d in at_home.items() if n.startswith("copy/")} == {
        n.removeprefix("tree/"): d for n, d in at_home.items() if n.startswith("tree/")
    }
    assert incomplete(home) == []


@on("docker-registry")
async def test_some_platforms_are_an_index_of_these(server: Server, home: FaultyRegistry) -> None:
    """E2: the registry has everything the new index names, and a second time nothing is written."""
    wanted = [Platform("linux", "amd64"), Platform("linux", "arm64")]
    name = put(home, "app", random_index("three", platforms=[*wanted, Platform("linux", "s390x")]), "v1")
    there = f"{server.name()}:v1"
    for status in ("copied", "equal"):
        async with server.session() as session:
            outcome = await copy(session, name, there, platforms=wanted)
            assert [target.status for target in outcome.targets] == [status]
