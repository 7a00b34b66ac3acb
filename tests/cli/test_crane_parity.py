"""Where crane is on PATH: the same words give the same output, and edits give what crane's give.

Digests of edited images need not be crane's; what is in the images must be.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import random_image
from tests.cli.conftest import Ended, Program, fill, run
from tests.peers import require
from tests.recipes.shop import NEW_BASE, OLD_BASE, Layer, Shop, app, stock

SAME = {
    "digest": "digest {a}/one:1",
    "digest of an index": "digest {a}/app:1",
    "digest of a platform": "digest --platform linux/arm64 {a}/app:1",
    "digest in full": "digest --full-ref {a}/app:1",
    "digest by digest": "digest {a}/app@{digest}",
    "manifest": "manifest {a}/one:1",
    "manifest of an index": "manifest {a}/app:1",
    "manifest of a platform": "manifest {a}/app:1 --platform linux/arm64",
    "manifest of Docker's": "manifest {a}/docker:1",
    "config": "config {a}/one:1",
    "config of an index": "config {a}/app:1",
    "config of a platform": "config {a}/app:1 --platform linux/arm64",
    "config of Docker's": "config {a}/docker:1",
    "blob": "blob {a}/one@{layer}",
    "ls": "ls {a}/app",
    "ls in full": "ls --full-ref {a}/app",
    "ls without digest tags": "ls -O {a}/app",
    "catalog": "catalog {a}",
    "catalog in full": "catalog {a} --full-ref",
    "index list": "index list {a}/app:1",
    "index list of a layout": "index list layout",
    "validate": "validate --remote {a}/one:1",
    "validate an index": "validate --remote {a}/app:1",
    "validate without reading": "validate --fast --remote {a}/app:1",
    "validate a file": "validate --tarball saved.tar",
    "export of a blob": "export {a}/blob:1",
    "export of a blob, to stdout": "export {a}/blob:1 -",
    "tag": "tag {a}/one:1 again",
    "cp": "cp {a}/app:1 {b}/app:1",
    "copy": "copy {a}/one:1 {b}/one:1",
    "cp of a platform": "cp --platform linux/arm64 {a}/app:1 {b}/arm:1",
    "cp of all tags": "cp -a {a}/worker {b}/worker",
    "pull": "pull {a}/one:1 pulled.tar",
    "push": "push saved.tar {b}/pushed:1",
    "push a layout": "push layout {b}/pushed:1",
    "push an index": "push --index layout {b}/pushed:1",
}
"""Command lines with the same stdout and exit code; ``{a}`` has the images, ``{b}`` takes them."""


@dataclass(frozen=True)
class Edit:
    """An edit, ``{}`` being the tag it makes, and which parts of the config both programs must agree on.

    crane leaves history entries blank or names itself, writes the time of the edit, or drops fields; those parts are
    left out.
    """

    line: str
    parts: tuple[str, ...] = ("config", "os", "architecture", "rootfs")
    stdin: str = ""


EDITS = {
    "append a tar": Edit("append -b {a}/one:1 -f layer.tar -t {}"),
    "append a gzip": Edit("append -b {a}/one:1 -f layer.tar.gz -t {}"),
    "append two": Edit("append -b {a}/one:1 -f layer.tar -f layer.tar.gz -t {}"),
    "append two in a word": Edit("append -b {a}/one:1 -f layer.tar,layer.tar.gz -t {}"),
    "append to Docker's": Edit("append -b {a}/docker:1 -f layer.tar -t {}"),
    "append to nothing": Edit("append -f layer.tar -t {}", parts=("config", "rootfs")),
    "append to nothing of OCI's": Edit("append --oci-empty-base -f layer.tar -t {}", parts=("config", "rootfs")),
    "mutate": Edit("mutate {a}/one:1 -l a=b -l c=d,e -e NEW=1 -e PATH=/usr/bin -t {}", parts=()),
    "mutate what is run": Edit("mutate {a}/one:1 --entrypoint sh,-c --cmd ls,-l -u 1000 -w /srv -t {}", parts=()),
    "mutate the entrypoint alone": Edit("mutate {a}/one:1 --entrypoint /bin/one -t {}", parts=()),
    "mutate ports": Edit("mutate {a}/one:1 --exposed-ports 80,53/udp -t {}", parts=()),
    "mutate the platform": Edit("mutate {a}/one:1 --set-platform windows/arm64:10.1 -t {}", parts=()),
    "mutate and append": Edit("mutate {a}/one:1 --append layer.tar -l a=b -t {}"),
    "mutate annotations": Edit("mutate {a}/one:1 -a a=b -a c=d -t {}", parts=()),
    "mutate Docker's": Edit("mutate {a}/docker:1 -l a=b -t {}", parts=()),
    "rebase": Edit("rebase {a}/one:1 --old_base {a}/plain:1 --new_base {a}/plain:2 -t {}"),
    "flatten": Edit("flatten {a}/one:1 -t {}", parts=("config", "os", "architecture")),
    "edit config": Edit("edit config {a}/one:1 -t {}", parts=(), stdin="CONFIG"),
    "edit manifest": Edit("edit manifest {a}/one:1 -t {}", parts=(), stdin="MANIFEST"),
}
INDEX_EDITS = {
    "index append": "index append -m {a}/tool:amd64 -m {a}/tool:arm64 -t {}",
    "index append of indexes": "index append -m {a}/app:1 -m {a}/tool:arm64 -t {}",
    "index append of an index as one": "index append --flatten=false -m {a}/app:1 -t {}",
    "index append to one": "index append {a}/app:1 -m {a}/tool:arm64 -t {}",
    "index append of Docker's": "index append --docker-empty-base -m {a}/docker:1 -t {}",
    "index filter": "index filter {a}/app:1 --platform linux/arm64 -t {}",
    "index filter by system": "index filter {a}/app:1 --platform linux -t {}",
    "index filter by several": "index filter {a}/app:1 --platform linux/amd64 --platform linux/arm64 -t {}",
    "flatten an index": "flatten {a}/app:1 -t {}",
}
ADDED = Layer({"etc/added": "added\n", "etc/one.conf": None})


@dataclass(frozen=True)
class Peers:
    """Both programs, and two registries."""

    crane: Callable[..., Awaitable[Ended]]
    asyncrane: Program
    names: dict[str, str]

    def words(self, line: str, target: str = "") -> list[str]:
        """A line of a table as arguments."""
        return line.replace("{}", target).format(**self.names).split()


@pytest.fixture
async def peers(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Peers]:
    path = require("crane")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layer.tar").write_bytes(ADDED.tar)
    (tmp_path / "layer.tar.gz").write_bytes(ADDED.blob)

    async def crane(*arguments: str, stdin: str = "") -> Ended:
        return await run([str(path), *arguments], program.environ, stdin)

    async with FaultyRegistry() as first, FaultyRegistry() as second:
        stock(first, first.address)
        shop = Shop(first, first.address, "")
        shop.image("plain", "1", OLD_BASE)
        shop.image("plain", "2", NEW_BASE)
        shop.image("one", "1", (*OLD_BASE, app("amd64", "one", 1)))
        shop.artifact("blob", "1", "application/spdx+json", '{"spdxVersion":"SPDX-2.3"}')
        fill(first, "docker", random_image("docker", docker=True), "1")
        index = first.get_manifest("app", "1")
        assert index is not None
        names = {
            "a": first.address,
            "b": second.address,
            "digest": str(index.digest),
            "layer": str(first.put_blob("one", OLD_BASE[0].blob)),
        }
        yield Peers(crane, program, names)


@pytest.mark.parametrize("line", SAME.values(), ids=SAME.keys())
async def test_the_same_words_print_the_same(peers: Peers, line: str) -> None:
    if "saved.tar" in line:
        await peers.crane("pull", f"{peers.names['a']}/one:1", "saved.tar")
    if "layout" in line:
        await peers.crane("pull", "--format", "oci", f"{peers.names['a']}/one:1", "layout")
    ours = await peers.asyncrane(*peers.words(line))
    theirs = await peers.crane(*peers.words(line))
    assert (ours.code, ours.out) == (theirs.code, theirs.out), (ours.err, theirs.err)
    assert ours.code == 0


async def test_deleting_prints_nothing(peers: Peers) -> None:
    """And what was deleted is gone for both."""
    repository = f"{peers.names['a']}/tool"
    digests = [(await peers.crane("digest", f"{repository}:{tag}")).text.strip() for tag in ("amd64", "arm64")]
    ours = await peers.asyncrane("delete", f"{repository}@{digests[0]}")
    theirs = await peers.crane("delete", f"{repository}@{digests[1]}")
    assert (ours.code, ours.out) == (theirs.code, theirs.out) == (0, b"")
    assert (await peers.crane("ls", repository)).out == b""


@pytest.mark.parametrize("name", EDITS)
async def test_an_edit_gives_what_cranes_gives(peers: Peers, name: str) -> None:
    """What crane then finds in both images: a valid one, the same config, the same files, annotations and types."""
    edit, place = EDITS[name], f"{peers.names['a']}/edited"
    stdin = await _document(peers, edit.stdin)
    ours = await peers.asyncrane(*peers.words(edit.line, f"{place}:ours"), stdin=stdin)
    theirs = await peers.crane(*peers.words(edit.line, f"{place}:theirs"), stdin=stdin)
    assert (ours.code, theirs.code) == (0, 0), (ours.err, theirs.err)
    assert _shape(ours.text) == _shape(theirs.text)
    assert (await peers.crane("validate", "--remote", f"{place}:ours")).text == f"PASS: {place}:ours\n"
    mine, other = await _config(peers, f"{place}:ours"), await _config(peers, f"{place}:theirs")
    for part in edit.parts or mine.keys() | other.keys():
        assert mine.get(part) == other.get(part), part
    assert await _files(peers, f"{place}:ours") == await _files(peers, f"{place}:theirs")
    assert await _outline(peers, f"{place}:ours", name) == await _outline(peers, f"{place}:theirs", name)


@pytest.mark.parametrize("name", INDEX_EDITS)
async def test_an_edited_index_is_what_cranes_is(peers: Peers, name: str) -> None:
    """The same entries in the same order, by platform, type and, where images stay what they are, digest."""
    line, place = INDEX_EDITS[name], f"{peers.names['a']}/edited"
    ours = await peers.asyncrane(*peers.words(line, f"{place}:ours"))
    theirs = await peers.crane(*peers.words(line, f"{place}:theirs"))
    assert (ours.code, theirs.code) == (0, 0), (ours.err, theirs.err)
    assert (await peers.crane("validate", "--remote", f"{place}:ours")).text == f"PASS: {place}:ours\n"
    mine, other = await _manifest(peers, f"{place}:ours"), await _manifest(peers, f"{place}:theirs")
    # crane notes the type of the config as the type of an artifact, which images are not
    hidden = ("artifactType", *(("digest", "size") if "flatten an" in name else ()))
    assert mine["mediaType"] == other["mediaType"]
    assert [_without(entry, hidden) for entry in mine["manifests"]] == [
        _without(entry, hidden) for entry in other["manifests"]
    ]
    for entry in mine["manifests"] if "digest" in hidden else ():
        platform = f"linux/{entry['platform']['architecture']}"
        both = [await _files(peers, f"{place}:{tag}", "--platform", platform) for tag in ("ours", "theirs")]
        assert both[0] == both[1]


async def test_an_export_has_the_same_files(peers: Peers, tmp_path: Path) -> None:
    """By name, type, mode and content; written to stdout, to ``-`` and to a file, and out of a tarball on stdin."""
    image = f"{peers.names['a']}/one:1"
    theirs = await peers.crane("export", image, "-")
    for arguments in ([image], [image, "-"]):
        assert _members((await peers.asyncrane("export", *arguments)).out) == _members(theirs.out)
    assert (await peers.asyncrane("export", image, "made.tar")).out == b""
    assert _members((tmp_path / "made.tar").read_bytes()) == _members(theirs.out)


async def test_what_is_pulled_is_what_crane_pulls(peers: Peers, tmp_path: Path) -> None:
    """The same files in the tarball, and the same description of them; each program pushes the other's."""
    image, place = f"{peers.names['a']}/one:1", f"{peers.names['b']}/pushed"
    for form in ("tarball", "legacy"):
        assert (await peers.asyncrane("pull", "--format", form, image, f"ours-{form}.tar")).code == 0
        assert (await peers.crane("pull", "--format", form, image, f"theirs-{form}.tar")).code == 0
        mine, other = (_members((tmp_path / f"{who}-{form}.tar").read_bytes()) for who in ("ours", "theirs"))
        assert json.loads(mine["manifest.json"][2]) == json.loads(other["manifest.json"][2])
        assert mine.keys() == other.keys()
        ours = await peers.asyncrane("push", f"theirs-{form}.tar", f"{place}:ours")
        theirs = await peers.crane("push", f"ours-{form}.tar", f"{place}:theirs")
        assert (ours.code, theirs.code) == (0, 0), (ours.err, theirs.err)
        assert await _config(peers, f"{place}:ours") == await _config(peers, f"{place}:theirs")


async def test_the_version_is_a_line(peers: Peers) -> None:
    ours, theirs = await peers.asyncrane("version"), await peers.crane("version")
    assert ours.text.count("\n") == theirs.text.count("\n") == 1


async def _document(peers: Peers, what: str) -> str:
    """What an editor would have left: the config or the manifest with something changed."""
    image = f"{peers.names['a']}/one:1"
    if what == "CONFIG":
        config = await _config(peers, image)
        config["config"]["Labels"] = {"edited": "yes"}
        return json.dumps(config)
    if what == "MANIFEST":
        return json.dumps({**await _manifest(peers, image), "annotations": {"edited": "yes"}})
    return ""


async def _config(peers: Peers, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await peers.crane("config", image)).out)
    return found


async def _manifest(peers: Peers, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await peers.crane("manifest", image)).out)
    return found


async def _files(peers: Peers, image: str, *options: str) -> dict[str, tuple[bytes, int, bytes, str]]:
    return _members((await peers.crane("export", *options, image, "-")).out)


async def _outline(peers: Peers, image: str, name: str) -> list[Any]:
    """Types and annotations of a manifest; crane makes rebased and flattened images half Docker's."""
    manifest = await _manifest(peers, image)
    if name in ("rebase", "flatten"):
        return [len(manifest["layers"])]
    layers = [layer["mediaType"] for layer in manifest["layers"]]
    return [manifest["mediaType"], manifest["config"]["mediaType"], layers, manifest.get("annotations")]


def _shape(text: str) -> str:
    """What was printed, whatever was made."""
    return re.sub(r"@sha256:[0-9a-f]{64}\n|:(ours|theirs)\n", lambda found: found[0][0], text)


def _members(content: bytes) -> dict[str, tuple[bytes, int, bytes, str]]:
    """What is in a tar: type, mode, content and link by name."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            read = file.read() if file is not None else b""
            found[member.name.rstrip("/")] = (member.type, member.mode, read, member.linkname)
        return found


def _without(entry: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in names}
