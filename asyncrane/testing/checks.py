"""Conformance of the protocols in :mod:`asyncrane.abc`: what every Source and Sink must do, whatever is behind it.

Each check raises :class:`AssertionError` with one sentence about what is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from asyncrane.abc import Lister, Sink, Source
from asyncrane.errors import AsyncraneError, ContentError, NotFound
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.testing.images import Sample, random_image, random_index, reader

_NOWHERE = Digest.of(b"nobody has this")


async def check_source(source: Source, *, tag: str, manifest: Manifest) -> None:
    """``source`` holds ``manifest``, complete, under ``tag``; this reads all of it, so keep it small."""
    for identifier in (tag, manifest.digest):
        found = await source.manifest(identifier)
        _expect(found.body == manifest.body, f"manifest({identifier!r}) has other bytes")
        _expect(found.media_type == manifest.media_type, f"manifest({identifier!r}) is a {found.media_type}")
        described = await source.resolve(identifier)
        _expect(described.digest == manifest.digest, f"resolve({identifier!r}) says {described.digest!s}")
        _expect(described.size == manifest.size, f"resolve({identifier!r}) says {described.size} bytes")
        _expect(described.media_type == manifest.media_type, f"resolve({identifier!r}) says {described.media_type}")
    for child in manifest.children():
        await check_source_child(source, child)
    for blob in manifest.blobs():
        await _check_blob(source, blob)
    for identifier in ("no-such-tag", _NOWHERE):
        await _expect_not_found(source, identifier)
    if isinstance(source, Lister):
        _expect(tag in [name async for name in source.tags()], f"tags() does not list {tag!r}")


async def check_source_child(source: Source, child: Descriptor) -> None:
    """A manifest an index lists can be read by its digest, with everything below it."""
    found = await source.manifest(child.digest)
    _expect(found.digest == child.digest, f"manifest({child.digest!s}) has digest {found.digest!s}")
    for below in found.children():
        await check_source_child(source, below)
    for blob in found.blobs():
        await _check_blob(source, blob)


async def check_sink(sink: Sink, *, sibling: Sink | None = None, seed: object = "check") -> Sample:
    """``sink`` is empty and writable; ``sibling`` is another empty repository of the same site, to mount into.

    :return: what was stored, under the tag ``checked``
    """
    sample = random_image(seed)
    await _check_refuses(sink, sample)
    for digest, content in sample.blobs.items():
        await _check_put(sink, sample.blob(digest), content)
    await _check_publish(sink, sample)
    if sibling is not None and sink.place.site.mounts:
        await _check_mount(sink, sibling, sample)
    if isinstance(sink, Source):
        await check_source(sink, tag="checked", manifest=sample.manifest)
    return sample


async def check_sink_index(sink: Sink, *, seed: object = "check index", tag: str = "many") -> Sample:
    """``sink`` takes whole indexes, by many tasks at once, with blobs that come in several pieces; what an index is
    made of gets no name. For stores that can keep more than single images.

    :return: what was stored, under ``tag``
    """
    sample = random_index(seed, layers=(100, 2_500_000), gzip=False)
    async with anyio.create_task_group() as tasks:
        for digest, content in (*sample.blobs.items(), *sample.blobs.items()):
            tasks.start_soon(sink.put, sample.blob(digest), reader(content))
    for digest in sample.blobs:
        _expect(await sink.has(digest), "has() is false after several put() at once")
    *children, root = sample.manifests
    async with anyio.create_task_group() as tasks:
        for child in children:
            tasks.start_soon(sink.publish, child)
    await sink.publish(root, tag)
    if isinstance(sink, Source):
        await check_source(sink, tag=tag, manifest=sample.manifest)
    if isinstance(sink, Lister):
        names = [name async for name in sink.tags()]
        _expect(names.count(tag) == 1, f"tags() lists {tag!r} {names.count(tag)} times")
        _expect(not any(child.digest in names for child in children), "tags() lists what an index is made of")
    await _check_moves(sink, sample, tag)
    return sample


async def _check_moves(sink: Sink, sample: Sample, tag: str) -> None:
    """A tag moves to what it is published for last, and back."""
    for manifest in (sample.manifests[0], sample.manifest):
        await sink.publish(manifest, tag)
        there = await sink.probe(tag)
        _expect(there is not None and there.digest == manifest.digest, "publish() did not move the tag")


async def _check_refuses(sink: Sink, sample: Sample) -> None:
    digest, content = next(iter(sample.blobs.items()))
    blob = sample.blob(digest)
    _expect(not await sink.has(digest), "has() says an absent blob is here")
    _expect(await sink.probe("checked") is None, "probe() of an absent tag names something")
    _expect(await sink.probe(sample.digest) is None, "probe() of an absent digest names something")
    for wrong in (content[:-1], content + b"\0", bytes(len(content))):
        try:
            await sink.put(blob, reader(wrong))
        except AsyncraneError:
            pass
        else:
            raise AssertionError("put() took bytes that are not the blob")
        _expect(not await sink.has(digest), "has() is true after a put() that failed")
    await _check_reader_error(sink, blob, content)


async def _check_reader_error(sink: Sink, blob: Descriptor, content: bytes) -> None:
    @asynccontextmanager
    async def broken(start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield content[start : start + len(content) // 2]
            raise ContentError("the reader gave up")

        yield chunks()

    try:
        await sink.put(blob, broken)
    except ContentError as error:
        _expect("the reader gave up" in str(error), f"put() hides the reader's error: {error}")
    else:
        raise AssertionError("put() does not raise the reader's error")
    _expect(not await sink.has(blob.digest), "has() is true after a put() whose reader failed")


async def _check_put(sink: Sink, blob: Descriptor, content: bytes) -> None:
    _expect(await sink.put(blob, reader(content)), "put() of a new blob says it was here already")
    _expect(await sink.has(blob.digest), "has() is false after put()")
    await sink.put(blob, reader(content))
    _expect(await sink.has(blob.digest), "has() is false after a second put()")


async def _check_publish(sink: Sink, sample: Sample) -> None:
    manifest = sample.manifest
    await sink.publish(manifest)
    by_digest = await sink.probe(manifest.digest)
    _expect(by_digest is not None and by_digest.digest == manifest.digest, "probe(digest) does not see publish()")
    _expect(await sink.probe("checked") is None, "publish() without a tag made one")
    for _ in range(2):
        await sink.publish(manifest, "checked")
        by_tag = await sink.probe("checked")
        _expect(by_tag is not None and by_tag.digest == manifest.digest, "probe(tag) does not see publish()")
        _expect(by_tag is not None and by_tag.media_type == manifest.media_type, "probe() says another media type")
        _expect(by_tag is not None and by_tag.size == manifest.size, "probe() says another size")


async def _check_mount(sink: Sink, sibling: Sink, sample: Sample) -> None:
    donor = sink.place.repository
    _expect(sibling.place.site == sink.place.site, "the sibling is of another site")
    for digest, content in sample.blobs.items():
        blob = sample.blob(digest)
        if not await sibling.mount(blob, donor):
            await sibling.put(blob, reader(content))
        _expect(await sibling.has(digest), "has() is false after mount()")
    absent = random_image("nobody has this either")
    digest, content = next(iter(absent.blobs.items()))
    _expect(not await sibling.mount(absent.blob(digest), donor), "mount() took a blob that the donor has not")
    await sibling.put(absent.blob(digest), reader(content))
    _expect(await sibling.has(digest), "has() is false after a put() that followed a refused mount()")
    await sibling.publish(sample.manifest, "checked")


async def _check_blob(source: Source, blob: Descriptor) -> None:
    whole = await _read(source, blob)
    _expect(len(whole) == blob.size, f"open() gave {len(whole)} bytes of {blob.size}")
    _expect(Digest.of(whole, blob.digest.algorithm) == blob.digest, f"open() gave other bytes for {blob.digest!s}")
    for start in {0, 1, len(whole) // 2, max(len(whole) - 1, 0)}:
        _expect(await _read(source, blob, start) == whole[start:], f"open(start={start}) gave other bytes")
    async with source.open(blob) as chunks:
        async for _ in chunks:
            break


async def _expect_not_found(source: Source, identifier: str) -> None:
    for ask in (source.resolve, source.manifest):
        try:
            await ask(identifier)
        except NotFound:
            continue
        raise AssertionError(f"{ask.__name__}({identifier!r}) found something")
    absent = Descriptor("application/octet-stream", _NOWHERE, 15)
    try:
        await _read(source, absent)
    except NotFound:
        return
    raise AssertionError("open() of an absent blob gave something")


async def _read(source: Source, blob: Descriptor, start: int = 0) -> bytes:
    content = bytearray()
    async with source.open(blob, start=start) as chunks:
        async for chunk in chunks:
            content += chunk
    return bytes(content)


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
