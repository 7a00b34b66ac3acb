"""Images are edited at a real registry, taken to files and brought back, and judged by others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio

from asyncrane import append, copy, mutate, pull, push, validate
from asyncrane.images.mutate import Changes
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository
from asyncrane.operations.surgery import rebase
from asyncrane.testing import FaultyRegistry
from tests.archive.test_layers import tar
from tests.copies.registries import PASSWORD, USER
from tests.images.samples import image, index, sample
from tests.peers import require
from tests.promises.images import put
from tests.servers.conftest import PROGRAMS, Server, on, on_each
from tests.servers.samples import KINDS, made


@on(*PROGRAMS, "tls")
async def test_append_mutate_and_rebase_leave_valid_images(
    server: Server, home: FaultyRegistry, tmp_path: Path
) -> None:
    """K1, K2: on an index, at the registry itself; the base's layers do not go over the wire again."""
    (tmp_path / "layer.tar").write_bytes(tar({"new": b"1" * 5000}))
    old, new = sample(index("base 1")), sample(index("base 2"))
    there, bases = server.name(), server.name("base")
    async with server.session() as session:
        for number, base in enumerate((old, new)):
            await copy(session, put(home, "base", base, f"{number}"), f"{bases}:{number}")
        read = session.statistics().bytes_read
        await append(session, [tmp_path / "layer.tar"], f"{there}:app", base=f"{bases}:0")
        if server.powers.mounts:
            assert session.statistics().bytes_read - read < 10_000, "configs and the new layer"
        await mutate(session, f"{there}:app", Changes(labels={"a": "b"}), to=f"{there}:labelled")
        await rebase(session, f"{there}:labelled", to=f"{there}:rebased", old_base=f"{bases}:0", new_base=f"{bases}:1")
        names = [f"{there}:{name}" for name in ("app", "labelled", "rebased")]
        verdicts = await validate(session, remotes=names)
        remote = session.remote(Repository.parse(there))
        rebased = await remote.manifest("rebased")
        children = [await remote.manifest(str(child.digest)) for child in rebased.children()]
    assert [verdict.problem for verdict in verdicts] == ["", "", ""]
    assert [len(child.layers()) for child in children] == [2, 2]
    assert {child.layers()[0].digest for child in children} == {m.layers()[0].digest for m in new.manifests[:-1]}


@on_each(
    "kind",
    [kind for kind in KINDS if kind != "large-image"],
    [(program, kind) for program in PROGRAMS for kind in ("index", "docker-image")],
)
async def test_digests_survive_the_way_through_a_layout(
    server: Server, home: FaultyRegistry, tmp_path: Path, kind: str
) -> None:
    """J3: pulled into a layout and pushed to another repository."""
    one, layout = made(kind), tmp_path / "layout"
    there, other = f"{server.name()}:v1", f"{server.name()}:v2"
    async with server.session() as session:
        await copy(session, put(home, "app", one, "v1"), there)
        pulled = await pull(session, [there], layout, form="oci")
        pushed = await push(session, layout, other)
    assert [found.digest for found in (*pulled, pushed)] == [one.digest, one.digest]


@on(*PROGRAMS)
async def test_an_image_survives_the_way_through_a_docker_archive(
    server: Server, home: FaultyRegistry, tmp_path: Path
) -> None:
    """The config, and so the image's id, is the same; layers are packed anew."""
    one, file = sample(image("archived", docker=True)), tmp_path / "image.tar"
    there, other = f"{server.name()}:v1", server.name()
    async with server.session() as session:
        await copy(session, put(home, "app", one, "v1"), there)
        await pull(session, [there], file)
        await push(session, file, f"{other}:v2")
        returned = await session.remote(Repository.parse(other)).manifest("v2")
        assert [verdict.problem for verdict in await validate(session, remotes=[f"{other}:v2"])] == [""]
    config, before = returned.config(), one.manifest.config()
    assert config is not None
    assert before is not None
    assert config.digest == before.digest


@on(*PROGRAMS, "htpasswd", "tls", "nginx-cache")
async def test_skopeo_and_crane_see_the_same_digest(server: Server, home: FaultyRegistry, tmp_path: Path) -> None:
    skopeo, crane = require("skopeo", package="skopeo"), require("crane")
    one, there = made("index"), f"{server.name()}:v1"
    async with server.session() as session:
        await copy(session, put(home, "app", one, "v1"), there)
    environ = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}
    if server.ca:
        environ["SSL_CERT_FILE"] = str(server.ca)
    flags = [] if server.ca else ["--tls-verify=false"]
    auths = {server.address: {"username": USER, "password": PASSWORD}} if server.password else {}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    if server.password:
        flags.append(f"--creds={USER}:{PASSWORD}")
    raw = await anyio.run_process([skopeo, "inspect", "--raw", *flags, f"docker://{there}"], env=environ)
    assert Digest.of(raw.stdout) == one.digest
    said = await anyio.run_process([crane, "digest", there], env=environ)
    assert said.stdout.decode().strip() == str(one.digest)
