"""Choosing platforms out of an index: the same choice always gives the same bytes.

(image-spec, image-index.md: the first matching entry wins; Docker's attestations name the image they belong to.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from asyncrane.errors import InvalidPlatform
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform

ATTESTS = "vnd.docker.reference.digest"
"""The annotation by which an attestation entry names the image it belongs to."""

_UNSAID = Platform("linux", "amd64")


def pick(index: Manifest, wanted: Platform) -> Descriptor:
    """The first entry of ``index`` for one platform; an entry without a platform counts as linux/amd64, as in crane.

    :raises InvalidPlatform: when there is none; the message names those there are
    """
    for child in index.children():
        if (child.platform or _UNSAID).satisfies(wanted):
            return child
    raise _missing([wanted], index.children())


def strip(index: Manifest, wanted: Sequence[Platform]) -> Manifest:
    """``index`` with the entries for ``wanted`` only, in their order, with the attestations that belong to them.

    Nothing else changes, and an index that loses nothing keeps its bytes.

    :raises InvalidPlatform: when a wanted platform has no entry; the message names those there are
    """
    children = index.children()
    missing = [w for w in wanted if not any((c.platform or _UNSAID).satisfies(w) for c in children)]
    if missing:
        raise _missing(missing, children)
    kept = {c.digest for c in children if any((c.platform or _UNSAID).satisfies(w) for w in wanted)}
    chosen = [c.digest in kept or c.annotations.get(ATTESTS) in kept for c in children]
    if all(chosen):
        return index
    fields: dict[str, Any] = index.fields()
    fields["manifests"] = [entry for entry, keep in zip(fields["manifests"], chosen, strict=True) if keep]
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    return Manifest.read(body, content_type=index.media_type)


def check_image(actual: Platform | None, wanted: Sequence[Platform]) -> None:
    """Whether a single image's own platform (from its config) is one of ``wanted``.

    :raises InvalidPlatform: when it is not
    """
    if actual is None:
        raise InvalidPlatform(f"no image for {_names(wanted)}: what is there has no platform")
    if not any(actual.satisfies(w) for w in wanted):
        raise InvalidPlatform(f"no image for {_names(wanted)}: what is there is for {actual!s}")


def _missing(wanted: Sequence[Platform], children: Iterable[Descriptor]) -> InvalidPlatform:
    there = sorted({str(c.platform) for c in children if c.platform and c.platform.os not in ("", "unknown")})
    return InvalidPlatform(f"no image for {_names(wanted)} in the index; there are: {', '.join(there) or 'none'}")


def _names(platforms: Iterable[Platform]) -> str:
    return ", ".join(str(p) for p in platforms)
