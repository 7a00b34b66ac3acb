"""Editing what an image is made of by hand: its config, its manifest, one file. What comes back from the editor is
checked before anything is published, and an index keeps all its other images.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from asyncrane.abc import Source
from asyncrane.archive.inspection import inspect_blob
from asyncrane.errors import ContentError, InvalidInput, InvalidPlatform, NotFound, SizeMismatch
from asyncrane.images.append import append_layers
from asyncrane.images.extract import extract
from asyncrane.images.history import EPOCH, HistoryEntry
from asyncrane.images.index import load_index
from asyncrane.images.onefile import File, file_layer, find_file, path_in_image
from asyncrane.images.rebuild import each
from asyncrane.images.serialise import decode, described, encode, items, table
from asyncrane.images.validate import is_layer
from asyncrane.images.view import Image, Index, View, images, load, load_rest, opaques
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import DEFAULT_PLATFORM, Platform
from asyncrane.operations.moments import source_date_epoch, text
from asyncrane.operations.places import Places
from asyncrane.operations.publish import Published, destination, publish
from asyncrane.registry import blobs
from asyncrane.session import Session
from asyncrane.stores.locate import parse_location
from asyncrane.stores.remote import Remote

Edit: TypeAlias = bytes | Callable[[bytes], Awaitable[bytes]]
"""What to put there, or what makes it of what is there (an editor)."""


async def edit_config(
    session: Session, image: str, edit: Edit, *, tag: str | None = None, platform: Platform | None = None
) -> Published:
    """Replace the config of ``image``, byte for byte; of an index that of its image for ``platform`` (default
    linux/amd64), the others stay. It goes to ``tag``, or back to where it is.

    :raises ContentError: when the new config is none, or its diff ids are not those of the layers
    :raises InvalidPlatform: when there is no image for the platform
    """
    location = parse_location(image)
    target = destination(location, tag)
    async with Places(session) as places:
        found = await places.source(location)
        source = session.source(found.place)
        before = await load(source, found.identifier)
        chosen = _chosen(before, platform)
        content = await _edited(chosen.config, edit)
        await _check_config(source, chosen, content)
        after = each(before, lambda one: _with_config(one, content) if _same(one, chosen) else one)
        return await publish(session, places, await load_rest(source, after), target, notes=_losses(before, after))


async def edit_manifest(
    session: Session, image: str, edit: Edit, *, tag: str | None = None, media_type: str | None = None
) -> Published:
    """Replace the manifest or index ``image``, byte for byte. It goes to ``tag``, or back to where it is, as what
    ``media_type`` says, or it itself, or as what was there before.

    :raises UnsupportedManifest: when the new one is none
    :raises ContentError: when it names what is not there
    :raises InvalidInput: when ``media_type`` is not a manifest's
    """
    location = parse_location(image)
    target = destination(location, tag)
    if media_type is not None and media_type not in media.MANIFESTS:
        raise InvalidInput(f"not a manifest's media type: {media_type!r}")
    async with Places(session) as places:
        found = await places.source(location)
        source = session.source(found.place)
        before = await source.manifest(found.identifier)
        content = await _edited(before.body, edit)
        after = _read_manifest(content, before, media_type)
        await _check_blobs(source, before, after)
        view: View = await load_index(source, after) if after.is_index else Image(after, b"", source.place)
        return await publish(session, places, view, target)


async def edit_file(
    session: Session, image: str, path: str, edit: Edit, *, tag: str | None = None, platform: Platform | None = None
) -> Published:
    """Put a layer with the file ``path`` on top of ``image``. New bytes go into every image of an index, unless
    ``platform`` says which; to be edited, the file is taken out of one, and only that one gets it back. It goes to
    ``tag``, or back to where it is.

    A file that is edited keeps its mode and owner; a new one, or new bytes, are root's, to be read and executed by all
    (0555), as in crane.

    :raises InvalidInput: when ``path`` is not a file's, or it is not said which image of an index to edit
    :raises InvalidPlatform: when there is no image for the platform
    """
    name = path_in_image(path)
    location = parse_location(image)
    target = destination(location, tag)
    async with Places(session) as places:
        found = await places.source(location)
        source = session.source(found.place)
        before = await load(source, found.identifier)
        chosen: Image | None = None
        file = File(name)
        if platform is not None or not isinstance(edit, bytes):
            if platform is None and len(list(images(before))) > 1:
                raise InvalidInput(f"{location} has images for several platforms: say which one to edit (--platform)")
            chosen = _chosen(before, platform)
        if isinstance(edit, bytes) or chosen is None:
            content: bytes | None = await _edited(b"", edit)
        else:
            async with extract(source, chosen) as chunks:
                file = await find_file(chunks, name)
            edited = await _edited(file.content, edit)
            content = None if edited == file.content and file.there else edited
        after = (
            before if content is None else _with_file(before, msgspec.structs.replace(file, content=content), chosen)
        )
        return await publish(session, places, await load_rest(source, after), target, notes=_losses(before, after))


async def _edited(content: bytes, edit: Edit) -> bytes:
    return edit if isinstance(edit, bytes) else await edit(content)


def _chosen(view: View, platform: Platform | None) -> Image:
    """The image that is meant: the only one, or that for ``platform``."""
    there = list(images(view))
    if isinstance(view, Index) and len(there) == 1 and platform is None:
        return there[0]
    wanted = platform or DEFAULT_PLATFORM
    if isinstance(view, Image) and platform is None:
        return view
    for image in there:
        if image.platform.satisfies(wanted):
            return image
    known = ", ".join(sorted({str(image.platform) for image in there})) or "none"
    raise InvalidPlatform(f"no image for {wanted!s}; there are: {known}")


def _same(one: Image, other: Image) -> bool:
    return one.manifest.digest == other.manifest.digest


def _losses(before: View, after: View) -> tuple[str, ...]:
    gone = len(list(opaques(before))) - len(list(opaques(after)))
    return (f"{gone} attestation{'s' * (gone > 1)} left out: about what was edited",) if gone else ()


# configs


def _with_config(image: Image, content: bytes) -> Image:
    if content == image.config:
        return image
    fields = image.fields()
    fields["config"] = described(fields["config"], content)
    manifest = Manifest.read(encode(fields), content_type=image.manifest.media_type)
    return Image(manifest, content, image.home, image.origins, {**image.added, Digest.of(content): content})


async def _check_config(source: Source, image: Image, content: bytes) -> None:
    """Whether it can be the config of ``image``. The layers themselves are only read when it says something else of
    them than the one before.
    """
    listed = _diff_ids(content, "the edited config")
    tars = [layer for layer in image.manifest.layers() if is_layer(layer.media_type)]
    if len(listed) != len(tars):
        raise ContentError(f"the edited config has {len(listed)} diff_ids for {len(tars)} layers")
    try:
        before = _diff_ids(image.config, "the config")
    except ContentError:
        before = []
    if listed == before:
        return
    for number, (layer, diff_id) in enumerate(zip(tars, listed, strict=True)):
        if number < len(before) and before[number] == diff_id and len(before) == len(tars):
            continue
        found = await inspect_blob(source, layer, layer=True)
        if found.diff_id != diff_id:
            actual = found.diff_id if found.diff_id is not None else found.problem
            raise ContentError(f"the edited config has the diff_id {diff_id} for layer {number}, which has {actual}")


def _diff_ids(config: bytes, what: str) -> list[str]:
    root = table(decode(config, what), "rootfs", what)
    found: list[str] = items(root, "diff_ids", what, str)
    if found and root.get("type") != "layers":
        raise ContentError(f"{what}: 'rootfs' is not of the type 'layers'")
    return found


# manifests


def _read_manifest(content: bytes, before: Manifest, media_type: str | None) -> Manifest:
    said = decode(content, "the edited manifest").get("mediaType")
    if media_type is not None and said not in (None, media_type):
        raise ContentError(f"the edited manifest says that it is a {said}, and was to be a {media_type}")
    wanted = media_type or (said if isinstance(said, str) else before.media_type)
    return Manifest.read(content, content_type=wanted)


async def _check_blobs(source: Source, before: Manifest, after: Manifest) -> None:
    """Whether what ``after`` names and ``before`` did not is there, and as large as it says."""
    known = {(blob.digest, blob.size) for blob in before.blobs()}
    for blob in after.blobs():
        if (blob.digest, blob.size) in known or blob.data is not None or media.is_nondistributable(blob.media_type):
            continue
        try:
            size = await _size(source, blob)
        except (NotFound, SizeMismatch) as exc:
            raise ContentError(f"the edited manifest names what is not there: {exc}") from exc
        if size not in (None, blob.size):
            raise ContentError(f"the edited manifest says {blob.size} bytes of {blob.digest!s}, which has {size}")


async def _size(source: Source, blob: Descriptor) -> int | None:
    if isinstance(source, Remote):
        return await blobs.size(source.origin, source.place.repository, blob.digest)
    async with source.open(blob):
        return None


# files


def _with_file(view: View, file: File, chosen: Image | None) -> View:
    said = source_date_epoch()
    created = EPOCH if said is None else text(said)
    layer = file_layer(file)

    def edit(image: Image) -> Image:
        if chosen is not None and not _same(image, chosen):
            return image
        made = append_layers(image, [layer], history=HistoryEntry(created=created, created_by="asyncrane edit fs"))
        assert isinstance(made, Image)  # noqa: S101  (of an image comes an image)
        return made

    return each(view, edit)
