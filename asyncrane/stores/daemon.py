"""Images of a container engine: read as ``docker save`` gives them, written as ``docker load`` takes them.

An engine gives and takes whole archives only. What it saves is kept in a temporary file, and read from there in any
order and any number of times (J8); what it is to load is gathered in one, and sent when it is whole.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from asyncrane.abc import Place, Reader, Site
from asyncrane.archive.compression import Readable
from asyncrane.archive.spool import Spool
from asyncrane.archive.tarindex import TarIndex, index_stream
from asyncrane.archive.through_thread import through_thread
from asyncrane.errors import AsyncraneError, InvalidReference, NotFound, UnsupportedManifest
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.reference import DOCKER_HUB, Reference
from asyncrane.stores.files import PIECE, complaining
from asyncrane.stores.tarball_opening import OpenArchive
from asyncrane.stores.tarball_output import Destination
from asyncrane.stores.tarball_reading import ArchiveSource
from asyncrane.stores.tarball_writing import ArchiveSink
from asyncrane.transport.engine_api import EngineApi
from asyncrane.transport.redaction import scrubbed

_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_LINE = 1024 * 1024


def open_daemon(
    reference: str, *, writing: bool, environ: Mapping[str, str] = os.environ
) -> AbstractAsyncContextManager[ArchiveSource | DaemonSink]:
    """The image ``reference`` of the engine that ``DOCKER_HOST`` names, or docker's socket: a Source, with ``writing``
    a Sink. To be read it may be an image's ID, too (``sha256:...``). What is written is loaded when the context ends
    without an error; nothing is when no image came.

    :raises InvalidReference: when ``reference`` is no name of an image
    :raises NotFound: when the engine has no such image
    :raises ConnectFailed: when there is no engine
    :raises RegistryError: when the engine refuses
    """
    return _writing(reference, environ) if writing else _reading(reference, environ)


@asynccontextmanager
async def _reading(reference: str, environ: Mapping[str, str]) -> AsyncIterator[ArchiveSource]:
    name = reference if _IMAGE_ID.fullmatch(reference) else full_name(reference)
    with ExitStack() as stack:
        spool = stack.enter_context(Spool())
        async with EngineApi(environ) as api:
            try:
                await api.read(f"/images/{name}/json")
            except NotFound as exc:
                raise NotFound(f"{api.name} has no image {reference}", status=404) from exc
            async with api.stream("/images/get", names=name) as chunks:
                index = await through_thread(chunks, lambda raw: _indexed(raw, spool, f"docker-daemon:{reference}"))
        archive = OpenArchive(spool.fileno(), index)
        source = ArchiveSource(Place(Site.opened(f"docker-daemon:{reference}")), archive, stack)
        await source.load()
        yield source


def _indexed(raw: Readable, spool: Spool, name: str) -> TarIndex:
    return index_stream(raw, spool.write, name, anyio.from_thread.check_cancelled)


@asynccontextmanager
async def _writing(reference: str, environ: Mapping[str, str]) -> AsyncIterator[DaemonSink]:
    name = full_name(reference)
    if "@" in name or _IMAGE_ID.fullmatch(reference):
        raise InvalidReference(f"an engine takes images under a name and a tag, not by digest: {reference!r}")
    async with EngineApi(environ) as api:
        archive = _Gathered(reference)
        try:
            place = Place(Site.opened(f"docker-daemon:{reference}"))
            sink = DaemonSink(await anyio.to_thread.run_sync(ArchiveSink, place, archive, "tarball"), name)
            yield sink
            await sink.finish()
            if archive.whole is not None:
                await _load(api, archive.whole, name)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(archive.close)


def full_name(reference: str) -> str:
    """The name with its registry and tag, as every engine understands it: a short one means another image to podman
    than to docker.

    :raises InvalidReference: when it is no name of an image
    """
    parsed = Reference.parse(reference)
    registry = "docker.io" if parsed.repository.registry == DOCKER_HUB else parsed.repository.registry
    base = f"{registry}/{parsed.repository.path}"
    return f"{base}@{parsed.digest!s}" if parsed.digest else f"{base}:{parsed.tag or 'latest'}"


class DaemonSink:
    """An engine's image to be: a Sink that takes one image, without a tag, as it is called by where it goes."""

    def __init__(self, archive: ArchiveSink, name: str) -> None:
        self._archive = archive
        self._name = name
        self._root: Digest | None = None

    @property
    def place(self) -> Place:
        """Where this is."""
        return self._archive.place

    async def probe(self, identifier: str) -> Descriptor | None:
        """What a manifest digest names here, ``None`` when it names nothing: what the engine has already is not looked
        at, as it keeps images in a form of its own.
        """
        return await self._archive.probe(identifier or self._name)

    async def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return await self._archive.has(digest)

    async def mount(self, blob: Descriptor, donor: str) -> bool:
        """There is no other repository here."""
        return False

    async def put(self, blob: Descriptor, read: Reader) -> bool:
        """Store the blob; ``False`` when it was here already and nothing was read.

        :raises ContentError: when the bytes are not the blob
        """
        return await self._archive.put(blob, read)

    async def publish(self, manifest: Manifest, tag: str | None = None) -> None:
        """Let the engine have ``manifest`` under the name that this was opened with, or under ``tag`` instead.

        :raises UnsupportedManifest: when it is not a single image, or another one came before
        :raises RegistryError: when something it names is not here
        """
        if self._root not in (None, manifest.digest):
            raise UnsupportedManifest(f"{self.place.site} takes one image: choose a platform")
        await self._archive.publish(manifest, tag or self._name)
        self._root = manifest.digest

    async def finish(self) -> None:
        """Put the archive together, if an image came."""
        await self._archive.finish()

    def __repr__(self) -> str:
        return f"DaemonSink({self._name!r}, {self._archive!r})"


class _Gathered(Destination):
    """An archive that goes nowhere by itself: ``whole`` is the descriptor of its file, once it is. For use in a
    thread.
    """

    def __init__(self, reference: str) -> None:
        self.name = f"docker-daemon:{reference}"
        self.whole: int | None = None
        self._files: list[int] = []

    @property
    def place(self) -> str:
        """What tells it from others."""
        return self.name

    def create(self) -> int:
        """An empty file that may become it, open to write and read; it is gone after :meth:`close`."""
        with complaining(tempfile.gettempdir()), tempfile.TemporaryFile(prefix="asyncrane-") as file:
            self._files.append(os.dup(file.fileno()))
        return self._files[-1]

    def commit(self, descriptor: int) -> None:
        """Let one of those that were created be it."""
        self.whole = descriptor

    def close(self) -> None:
        """Give the room back."""
        files, self._files = self._files, []
        for descriptor in files:
            os.close(descriptor)

    def __repr__(self) -> str:
        return f"_Gathered({self.name!r})"


async def _load(api: EngineApi, descriptor: int, name: str) -> None:
    """Send an archive.

    :raises RegistryError: when the engine could not load it, which it says in an answer that begins with 200
    """
    size = os.fstat(descriptor).st_size
    sending = _content(descriptor)
    async with api.send("/images/load", sending, size=size, content_type="application/x-tar", quiet="1") as answer:
        complaint = await _complaint(answer)
    if complaint:
        raise AsyncraneError(f"{api.name} cannot load {name}: {complaint}")


async def _content(descriptor: int) -> AsyncIterator[bytes]:
    at = 0
    while data := await anyio.to_thread.run_sync(os.pread, descriptor, PIECE, at):
        yield data
        at += len(data)


async def _complaint(answer: AsyncIterator[bytes]) -> str:
    """What went wrong, empty when nothing did: the answer is JSON objects, one after the other, to the end."""
    held, found = b"", ""
    async for chunk in answer:
        *lines, held = (held + chunk).split(b"\n")
        held = held[-_LONGEST_LINE:]
        found = next(filter(None, map(_error, lines)), "") or found
    return found or _error(held)


def _error(line: bytes) -> str:
    try:
        fields: Any = json.loads(line) if line.strip() else {}
    except (ValueError, RecursionError):
        return ""
    if not isinstance(fields, dict):
        return ""
    detail = fields.get("errorDetail")
    text = (detail.get("message") if isinstance(detail, dict) else None) or fields.get("error")
    return scrubbed(str(text)) if text else ""
