"""Clients that nobody here wrote push to the registry and pull from it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import anyio

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.testing import FaultyRegistry
from tests.peers import require
from tests.server.client import Client, described


async def run(*command: str) -> str:
    ran = await anyio.run_process(command, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


async def push_real_image(client: Client, repository: str, tag: str) -> Digest:
    """An image of one tar layer, valid down to its diff id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"), io.BytesIO())
    layer = gzip.compress(buffer.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "history": [{"created_by": "a test"}],
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(buffer.getvalue())]},
        }
    ).encode()
    for data in (config, layer):
        await client.push_blob(repository, data)
    return await client.push_manifest(
        repository,
        {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": described(config, media.OCI_CONFIG),
            "layers": [described(layer, media.OCI_LAYER_GZIP)],
        },
        tag=tag,
    )


async def test_skopeo_pulls_an_image_and_pushes_it_back_unchanged(client: Client, tmp_path: Path) -> None:
    skopeo = str(require("skopeo", package="skopeo"))
    digest = await push_real_image(client, "a/b", "v1")
    host, layout = client.base.removeprefix("http://"), f"oci:{tmp_path / 'layout'}:v1"
    await run(skopeo, "copy", "--src-tls-verify=false", f"docker://{host}/a/b:v1", layout)
    await run(skopeo, "copy", "--dest-tls-verify=false", layout, f"docker://{host}/c/d:v2")
    assert (await client.ask("HEAD", "/v2/c/d/manifests/v2")).headers["Docker-Content-Digest"] == digest
    await run(skopeo, "delete", "--tls-verify=false", f"docker://{host}/c/d:v2")
    assert (await client.ask("HEAD", f"/v2/c/d/manifests/{digest}")).status == 404


async def test_crane_copies_by_mounting_validates_and_lists(client: Client) -> None:
    crane = str(require("crane"))
    digest = await push_real_image(client, "a/b", "v1")
    host = client.base.removeprefix("http://")
    assert await run(crane, "validate", "--remote", f"{host}/a/b:v1") == f"PASS: {host}/a/b:v1\n"
    await run(crane, "copy", f"{host}/a/b:v1", f"{host}/c/d:v2")
    assert await run(crane, "digest", f"{host}/c/d:v2") == f"{digest}\n"
    assert (await run(crane, "catalog", host)).split() == ["a/b", "c/d"]
    for number in range(12):
        await run(crane, "tag", f"{host}/a/b:v1", f"n{number:02}")
    listed = (await run(crane, "ls", f"{host}/a/b")).split()
    assert listed == [*(f"n{number:02}" for number in range(12)), "v1"]


async def test_skopeo_follows_a_redirect_to_the_storage_host(tmp_path: Path, client: Client) -> None:
    skopeo = str(require("skopeo", package="skopeo"))
    async with FaultyRegistry(storage_host=True) as registry:
        source = client.base.removeprefix("http://")
        await push_real_image(client, "a/b", "v1")
        target = f"docker://{registry.address}/a/b:v1"
        flags = ("--src-tls-verify=false", "--dest-tls-verify=false")
        await run(skopeo, "copy", *flags, f"docker://{source}/a/b:v1", target)
        await run(skopeo, "copy", "--src-tls-verify=false", target, f"oci:{tmp_path / 'layout'}")
        assert len(registry.requests(kind="storage", status=200)) == 2
