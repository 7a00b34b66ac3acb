"""Two registries that ask for tokens, the five operations between them, and what must be true when one has ended."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from asyncrane import (
    Campaign,
    Credential,
    FixedKeychain,
    Journal,
    Pair,
    RegistryOptions,
    Session,
    append,
    copy_all,
    load_mirror,
    open_oci_archive,
    pull,
    push,
)
from asyncrane.server import PlainUsers, TokenAuth
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import random_image
from tests.promises.images import incomplete, put, tags

NEW = random_image("new", layers=(100_000, 300_000))
"""What is moved. One layer is sent in one piece, the other as a stream."""

OLDER = random_image("older", layers=(500,))
"""What the tag names at the destination before, and still must when the operation fails."""

PASSWORD = "s3cret-of-the-fleet"

_KEPT = {"files", "temporary", "image.tar", "layer.tar", "mirror.yaml", "journal.db", "journal.db.lock"}
"""What may be in ``home`` afterwards: what was there before, and the journal."""


class World:
    """``source`` holds the new image as ``app:v1``, ``destination`` an older one; ``home`` is for files."""

    def __init__(self, source: FaultyRegistry, destination: FaultyRegistry, home: Path) -> None:
        self.source = source
        self.destination = destination
        self.home = home
        self.layer = _tar("hello", b"world")
        (home / "files").mkdir()
        (home / "temporary").mkdir()
        (home / "layer.tar").write_bytes(self.layer)
        put(source, "app", NEW, "v1")
        put(destination, "app", OLDER, "v1")

    def side(self, name: str) -> FaultyRegistry:
        """``source`` or ``destination``."""
        return {"source": self.source, "destination": self.destination}[name]

    @property
    def pulled(self) -> Path:
        """Where ``pull`` puts the archive."""
        return self.home / "files" / "pulled.tar"

    @asynccontextmanager
    async def session(self, **options: Any) -> AsyncIterator[Session]:
        """A session that may do everything at both, and never waits for long."""
        plain = {r.address: RegistryOptions(plain_http=True) for r in (self.source, self.destination)}
        settings = {"retries": 3, "retry_base": 0.01, "retry_max_time": 20.0, **options}
        async with Session(
            keychain=FixedKeychain(Credential("fleet", PASSWORD)), registries=plain, **settings
        ) as opened:
            yield opened

    # what must be true afterwards

    def arrived(self, operation: str) -> list[str]:
        """What is wrong after ``operation`` said that all is well."""
        if operation == "pull":
            return [*self._archived(), *self._left({self.pulled.name})]
        found = tags(self.destination)
        if operation == "append":
            wrong = self._appended()
        else:
            wrong = [] if found == {"app:v1": str(NEW.digest)} else [f"the tag is not the image: {found}"]
        return [*wrong, *incomplete(self.destination), *self._left(set())]

    def untouched(self, *, landed: bool) -> list[str]:
        """What is wrong after an operation failed; with ``landed`` its last write may have been done."""
        found = tags(self.destination).get("app:v1")
        moved = found != str(OLDER.digest) and not landed
        return [
            *([f"the tag was moved to {found}"] if moved else []),
            *incomplete(self.destination),
            *self._left(set()),
        ]

    def _left(self, expected: set[str]) -> list[str]:
        """Files that nobody asked for."""
        files = {path.name for path in (self.home / "files").iterdir()} - expected
        temporary = {path.name for path in (self.home / "temporary").iterdir()}
        beside = {path.name for path in self.home.iterdir()} - _KEPT
        return [f"left behind: {name}" for name in sorted(files | temporary | beside)]

    def _appended(self) -> list[str]:
        manifest = self.destination.get_manifest("app", "v1")
        config = manifest.config() if manifest is not None else None
        if manifest is None or config is None:
            return ["there is no image"]
        *base, top = manifest.layers()
        content = self.destination.get_blob("app", top.digest) or b""
        said = json.loads(self.destination.get_blob("app", config.digest) or b"{}")
        checks = {
            "the base's layers": [layer.digest for layer in base] == [layer.digest for layer in NEW.manifest.layers()],
            "the new layer": gzip.decompress(content) == self.layer,
            "its diff id": said["rootfs"]["diff_ids"][-1] == f"sha256:{hashlib.sha256(self.layer).hexdigest()}",
        }
        return [f"wrong: {what}" for what, right in checks.items() if not right]

    def _archived(self) -> list[str]:
        with tarfile.open(self.pulled) as archive:
            content = {member.name: _content(archive, member) for member in archive if member.isfile()}
        (image,) = json.loads(content["manifest.json"])
        found = [hashlib.sha256(content[name]).hexdigest() for name in (image["Config"], *image["Layers"])]
        config = NEW.manifest.config()
        wanted = [blob.digest.hex for blob in (config, *NEW.manifest.layers()) if blob is not None]
        return [] if found == wanted else [f"the archive holds {found}"]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file is not None else b""


def _tar(name: str, content: bytes) -> bytes:
    made, member = io.BytesIO(), tarfile.TarInfo(name)
    member.size = len(content)
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@asynccontextmanager
async def two_registries(home: Path) -> AsyncIterator[World]:
    """A new world, with its files in ``home``."""
    async with _registry() as source, _registry() as destination:
        yield World(source, destination, home)


def _registry() -> FaultyRegistry:
    return FaultyRegistry(auth=TokenAuth(PlainUsers({"fleet": PASSWORD})))


# the operations, as the command line calls them; ``options`` are the session's

Operation: TypeAlias = Callable[[World, Mapping[str, Any]], Awaitable[None]]


async def _cp(world: World, options: Mapping[str, Any]) -> None:
    pair = Pair(f"{world.source.address}/app", (f"{world.destination.address}/app",))
    async with world.session(**options) as session:
        outcomes = await copy_all(session, [pair], all_tags=True)
    for outcome in outcomes:
        if outcome.failure is not None:
            raise outcome.failure.error()


async def _mirror_apply(world: World, options: Mapping[str, Any]) -> None:
    path = world.home / "mirror.yaml"
    rule = f"{{from: {world.source.address}/app, to: {world.destination.address}/app}}"
    path.write_text(f"version: 1\nmirrors:\n  - {rule}\n")
    with contextlib.closing(Journal.open(world.home / "journal.db")) as journal:
        async with world.session(journal=journal, **options) as session:
            report = await Campaign(session, journal).apply(load_mirror(path), name=path)
    failures = [*(lost.failure for lost in report.failures), *(unread.failure for unread in report.unreadable)]
    if failures:
        raise failures[0].error()


async def _pull(world: World, options: Mapping[str, Any]) -> None:
    async with world.session(**options) as session:
        await pull(session, [f"{world.source.address}/app:v1"], world.pulled)


async def _push(world: World, options: Mapping[str, Any]) -> None:
    archive = world.home / "image.tar"
    async with open_oci_archive(archive, writing=True) as layout:
        await NEW.store(layout, "v1")
    async with world.session(**options) as session:
        await push(session, archive, f"{world.destination.address}/app:v1")


async def _append(world: World, options: Mapping[str, Any]) -> None:
    to, base = (f"{registry.address}/app:v1" for registry in (world.destination, world.source))
    async with world.session(**options) as session:
        await append(session, [world.home / "layer.tar"], to, base=base)


RUN: Mapping[str, Operation] = {
    "cp": _cp,
    "mirror apply": _mirror_apply,
    "pull": _pull,
    "push": _push,
    "append": _append,
}
