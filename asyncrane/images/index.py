"""Indexes put together, and taken apart: what they list stays as it is, byte for byte, wherever it can.

The views made here know the manifests of what is listed and nothing of configs, which nobody has to read for this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec

from asyncrane.abc import Place, Source
from asyncrane.errors import InvalidPlatform, UnsupportedManifest
from asyncrane.images.family import DOCKER, OCI, Family, family, translated
from asyncrane.images.serialise import decode, encode, items
from asyncrane.images.view import Image, Index, Opaque
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.nesting import Nesting
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import ATTESTS
from asyncrane.together import all_of

_AT_ONCE = 16


class Addition(msgspec.Struct, frozen=True):
    """Something to list: ``entry`` is its descriptor object, as it is to stand in the index."""

    entry: dict[str, Any]
    what: Index | Opaque


async def load_index(source: Source, manifest: Manifest) -> Index:
    """``manifest`` with the manifests of everything that it lists, indexes in it too.

    :raises UnsupportedManifest: when it is none, or something is listed that is no manifest
    :raises NotFound: when something listed is not there
    """
    check_index(manifest, f"{source.place}@{manifest.digest!s}")
    return await _load(source, manifest, anyio.Semaphore(_AT_ONCE), Nesting(), 0)


def check_index(manifest: Manifest, name: str) -> None:
    """Whether it is an index (E5).

    :raises UnsupportedManifest: when it is something else; the message says what
    """
    if not manifest.is_index:
        kind = "image manifest" if manifest.is_image else "manifest"
        raise UnsupportedManifest(f"{name} is not an index ({kind} {manifest.media_type})")


def empty_index(home: Place, *, docker: bool = False) -> Index:
    """An index that lists nothing."""
    kind = media.DOCKER_LIST if docker else media.OCI_INDEX
    return Index(_manifest({"schemaVersion": 2, "mediaType": kind, "manifests": []}, kind), (), home)


def listed(manifest: Manifest, home: Place, *, platform: Platform | None = None) -> Addition:
    """A single image, or an artifact, as an addition. ``platform`` is what its config says."""
    entry: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "size": manifest.size,
        "digest": str.__str__(manifest.digest),
    }
    if platform is not None and platform != Platform():
        entry["platform"] = _described(platform)
    return Addition(entry, Opaque(manifest.descriptor, home, manifest))


def whole(index: Index) -> Addition:
    """An index that is to be listed as one entry."""
    found = listed(index.manifest, index.home)
    return Addition(found.entry, index)


def parts(index: Index) -> list[Addition]:
    """What an index lists, each an addition, with all that the index says of it."""
    return [Addition(entry, child) for entry, child in zip(_entries(index), _children(index), strict=True)]


def append_manifests(index: Index, additions: Sequence[Addition], *, docker: bool = False) -> tuple[Index, int]:
    """``index`` with ``additions`` behind what it lists; what it lists already is not listed again. An index that lists
    nothing yet and gets only Docker images becomes a list of Docker's; ``docker`` makes it one in any case.

    One index never mixes OCI's media types with Docker's (K3): if both come together, all are made OCI's, with the same
    configs and layers. How many manifests had to be made anew is returned, too. Attestations of these are left out.

    :raises UnsupportedManifest: when that cannot be done to one of them
    """
    there = [*parts(index)]
    for addition in additions:
        if addition.entry not in [known.entry for known in there]:
            there.append(addition)
    if len(there) == len(index.children) and not docker:
        return index, 0
    families = {kind for one in there if (kind := family(_kind(one))) is not None}
    if index.children or not there:
        families.add(family(index.manifest.media_type) or OCI)
    wanted = DOCKER if docker or families == {DOCKER} else OCI
    kept, changed = _all_converted(there, wanted)
    return _relisted(index, kept, translated(index.manifest.media_type, wanted)), changed


def filter_platforms(index: Index, wanted: Sequence[Platform]) -> tuple[Index, list[Platform]]:
    """``index`` with what is for one of ``wanted``, where an empty field means any (``linux`` is every Linux), and the
    attestations of that (E6); which of ``wanted`` it has nothing for. Entries without a platform go, as in crane.

    :raises InvalidPlatform: when nothing would be left; the message says what there is
    """
    there = parts(index)
    named = [(one, one.what.manifest.digest if one.what.manifest else None) for one in there]
    platforms = {id(one): Platform.read(one.entry.get("platform")) for one in there}
    kept = {
        digest for one, digest in named if (p := platforms[id(one)]) is not None and any(_fits(p, w) for w in wanted)
    }
    if not kept:
        known = sorted({str(p) for p in platforms.values() if p is not None and p.os not in ("", "unknown")})
        asked = ", ".join(str(platform) for platform in wanted)
        raise InvalidPlatform(f"no image for {asked} in the index; there are: {', '.join(known) or 'none'}")
    chosen = [one for one, digest in named if digest in kept or _attests(one.entry) in kept]
    missing = [w for w in wanted if not any(p is not None and _fits(p, w) for p in platforms.values())]
    return (index if len(chosen) == len(there) else _relisted(index, chosen, None)), missing


def remove_manifests(index: Index, digests: Sequence[Digest]) -> Index:
    """``index`` without the entries of ``digests`` and the attestations of these.

    :raises UnsupportedManifest: when it does not list one of them
    """
    there = parts(index)
    known = {one.entry.get("digest") for one in there}
    if missing := [digest for digest in digests if digest not in known]:
        raise UnsupportedManifest(f"the index does not list {', '.join(map(str.__str__, missing))}")
    kept = [one for one in there if one.entry["digest"] not in digests and _attests(one.entry) not in digests]
    return _relisted(index, kept, None)


def parse_wish(text: str) -> Platform:
    """Read a platform of which parts may be left out: ``linux``, ``linux/arm``, ``windows/amd64:10.0.1``.

    :raises InvalidPlatform: for anything else
    """
    names = text.strip().partition(":")[0]
    if names and "/" not in names:
        whole_text = text.strip().replace(names, f"{names}/any", 1)
        return msgspec.structs.replace(Platform.parse(whole_text), architecture="")
    return Platform.parse(text.strip())


def _fits(platform: Platform, wish: Platform) -> bool:
    pairs = (
        (wish.os, platform.os),
        (wish.architecture, platform.architecture),
        (wish.variant, platform.variant),
        (wish.os_version, platform.os_version),
    )
    return all(asked in ("", has) for asked, has in pairs)


async def _load(source: Source, manifest: Manifest, slots: anyio.Semaphore, nesting: Nesting, depth: int) -> Index:
    try:
        entries = nesting.entries(manifest, depth)
    except UnsupportedManifest as exc:
        raise UnsupportedManifest(f"{source.place}@{exc}") from exc

    async def read(entry: Descriptor) -> Index | Opaque:
        if entry.media_type not in media.MANIFESTS:
            raise UnsupportedManifest(f"{manifest.digest!s} lists a {entry.media_type or 'thing of no type'}")
        async with slots:
            child = await source.manifest(str(entry.digest))
        if child.is_index:
            return await _load(source, child, slots, nesting, depth + 1)
        return Opaque(entry, source.place, child)

    return Index(manifest, tuple(await all_of(entries, read)), source.place)


def _entries(index: Index) -> list[dict[str, Any]]:
    what = f"index {index.manifest.digest!s}"
    found: list[dict[str, Any]] = items(decode(index.manifest.body, what), "manifests", what, dict)
    return found


def _children(index: Index) -> list[Index | Opaque]:
    """Its children, images too as something that goes along unseen."""
    return [
        Opaque(child.manifest.descriptor, child.home, child.manifest) if isinstance(child, Image) else child
        for child in index.children
    ]


def _kind(addition: Addition) -> str:
    return str(addition.entry.get("mediaType", ""))


def _attests(entry: dict[str, Any]) -> str | None:
    """The digest of what the entry is an attestation of."""
    annotations = entry.get("annotations")
    return annotations.get(ATTESTS) if isinstance(annotations, dict) else None


def _relisted(index: Index, additions: Sequence[Addition], media_type: str | None) -> Index:
    """``index`` with another list, everything else that it says kept."""
    fields = decode(index.manifest.body, f"index {index.manifest.digest!s}")
    fields["manifests"] = [addition.entry for addition in additions]
    kind = media_type or index.manifest.media_type
    if "mediaType" in fields or kind == media.DOCKER_LIST:
        fields["mediaType"] = kind
    return Index(_manifest(fields, kind), tuple(addition.what for addition in additions), index.home)


def _all_converted(additions: Sequence[Addition], wanted: Family) -> tuple[list[Addition], int]:
    """All in the family ``wanted``, but for attestations of what had to be made anew; how many that were."""
    converted = [_converted(one, wanted) for one in additions]
    pairs = zip(additions, converted, strict=True)
    changed = {old.entry["digest"] for old, new in pairs if new.entry["digest"] != old.entry["digest"]}
    return [one for one in converted if _attests(one.entry) not in changed], len(changed)


def _converted(addition: Addition, wanted: Family) -> Addition:
    """The same in the family ``wanted``, all the way down."""
    ours = family(_kind(addition))
    if ours is None or ours == wanted:
        return addition
    what = addition.what
    made: Index | Opaque
    if isinstance(what, Index):
        inner, _ = _all_converted(parts(what), wanted)
        made = _relisted(what, inner, translated(what.manifest.media_type, wanted))
        manifest = made.manifest
    else:
        manifest = _retyped(what, wanted)
        made = Opaque(manifest.descriptor, what.home, manifest)
    entry = {
        **addition.entry,
        "mediaType": manifest.media_type,
        "size": manifest.size,
        "digest": str.__str__(manifest.digest),
    }
    entry.pop("data", None)
    return Addition(entry, made)


def _retyped(what: Opaque, wanted: Family) -> Manifest:
    manifest = what.manifest
    if manifest is None or not manifest.is_image:
        raise UnsupportedManifest(f"{what.descriptor.digest!s} cannot be given the media types of the others")
    name = f"manifest {manifest.digest!s}"
    fields = decode(manifest.body, name)
    layers: list[dict[str, Any]] = items(fields, "layers", name, dict)
    for entry in (fields["config"], *layers):
        kind = translated(str(entry.get("mediaType", "")), wanted)
        if kind is None:
            raise UnsupportedManifest(f"{name} has a {entry.get('mediaType')}, for which Docker has no type")
        entry["mediaType"] = kind
    kind = translated(manifest.media_type, wanted) or manifest.media_type
    fields["mediaType"] = kind
    return _manifest(fields, kind)


def _described(platform: Platform) -> dict[str, Any]:
    """A platform object, its keys in crane's order, so that equal indexes have equal digests."""
    fields = (
        ("architecture", platform.architecture),
        ("os", platform.os),
        ("os.version", platform.os_version),
        ("os.features", list(platform.os_features)),
        ("variant", platform.variant),
    )
    return {key: value for key, value in fields if value or key in ("architecture", "os")}


def _manifest(fields: dict[str, Any], media_type: str) -> Manifest:
    return Manifest.read(encode(fields), content_type=media_type)
