"""Google's registries: one listing tells the children of a repository, its manifests and their tags.

(gcr.io, Artifact Registry: ``tags/list`` with ``child`` and ``manifest``; ggcr ``pkg/v1/google/list.go``. Sizes and
times are decimal strings, times in milliseconds since 1970.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from asyncrane.errors import InvalidDigest, ServerFault
from asyncrane.oci.digest import Digest
from asyncrane.registry.paging import decode, pages
from asyncrane.transport.answer import Answer
from asyncrane.transport.challenge import pull_scope
from asyncrane.transport.origin import Origin
from asyncrane.transport.redaction import bare_url

PAGE = 10000
"""Entries to ask for at once: Google's registries are slow with less (ggcr#1091)."""

PAGE_ELSEWHERE = 1000
"""ECR refuses more, and others may speak as Google's do."""

_HOSTS = ("gcr.io", "pkg.dev", "google.com")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""What times are counted from."""


class Listed(msgspec.Struct, frozen=True):
    """One manifest of a listing: ``size`` is the bytes of the image, -1 when unsaid, as ``created`` and ``uploaded``
    are ``None`` then.
    """

    digest: Digest
    tags: tuple[str, ...] = ()
    media_type: str = ""
    size: int = -1
    created: datetime | None = None
    uploaded: datetime | None = None


class Listing(msgspec.Struct, frozen=True):
    """What one repository has: ``children`` are names of one part. ``extended`` is whether the registry spoke of
    children or manifests at all; any other registry only knows ``tags``.
    """

    tags: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    manifests: tuple[Listed, ...] = ()
    extended: bool = False

    @property
    def holds_images(self) -> bool:
        """Whether this is a repository, and not just a part of the names of others."""
        return bool(self.tags or self.manifests)


def is_google(registry: str) -> bool:
    """Whether ``registry`` is one of Google's (the hosts of ggcr's ``google.isGoogle``)."""
    host = registry.partition(":")[0]
    return host in ("gcr.io", "google.com") or host.endswith(tuple(f".{name}" for name in _HOSTS))


async def listing(origin: Origin, path: str, *, scopes: Sequence[str] = ()) -> Listing:
    """Everything that repository ``path`` tells of itself, all pages of it.

    :raises NotFound: when there is no such repository
    :raises ServerFault: when the list cannot be had completely, or says what makes no sense
    """
    found: list[Listing] = []
    size = PAGE if is_google(origin.registry) else PAGE_ELSEWHERE
    target = f"/v2/{path}/tags/list?n={size}"
    async for page in pages(origin, target, _read, scopes=scopes or (pull_scope(path),)):
        found += page
    if len(found) == 1:
        return found[0]
    return Listing(
        tags=_merged(page.tags for page in found),
        children=_merged(page.children for page in found),
        manifests=_one_each(manifest for page in found for manifest in page.manifests),
        extended=any(page.extended for page in found),
    )


def _read(answer: Answer) -> Sequence[Listing]:
    fields = decode(answer)
    children, manifests = fields.get("child"), fields.get("manifest")
    if children is not None and not isinstance(children, list):
        raise ServerFault(f"GET {bare_url(answer.url)}: 'child' is not a list", status=answer.status)
    if manifests is not None and not isinstance(manifests, dict):
        raise ServerFault(f"GET {bare_url(answer.url)}: 'manifest' is not an object", status=answer.status)
    tags = fields.get("tags")
    if tags is not None and not isinstance(tags, list):
        raise ServerFault(f"GET {bare_url(answer.url)}: 'tags' is not a list", status=answer.status)
    try:
        listed = tuple(_listed(digest, said) for digest, said in (manifests or {}).items())
    except (InvalidDigest, ValueError, OverflowError) as exc:
        raise ServerFault(f"GET {bare_url(answer.url)}: {str(exc)[:160]}", status=answer.status) from exc
    listing = Listing(
        tags=_names(tags),
        children=_names(children),
        manifests=listed,
        extended="child" in fields or "manifest" in fields,
    )
    return (listing,)


def _listed(digest: str, said: Any) -> Listed:
    if not isinstance(said, dict):
        raise ValueError(f"manifest {digest[:80]}: not an object")
    size = _number(said, "imageSizeBytes")
    media_type = said.get("mediaType")
    return Listed(
        digest=Digest.parse(digest),
        tags=_names(said.get("tag")),
        media_type=media_type if isinstance(media_type, str) else "",
        size=-1 if size is None else size,
        created=_time(said, "timeCreatedMs"),
        uploaded=_time(said, "timeUploadedMs"),
    )


def _number(said: Mapping[str, Any], key: str) -> int | None:
    """A decimal string; a number is taken as well."""
    text = said.get(key)
    if text is None or text == "":
        return None
    if isinstance(text, bool) or not isinstance(text, str | int) or not str(text).lstrip("-").isdecimal():
        raise ValueError(f"{key} {str(text)[:40]!r} is not a number")
    return int(text)


def _time(said: Mapping[str, Any], key: str) -> datetime | None:
    """Milliseconds since 1970. Images built to be reproducible say 0, or the year 1."""
    number = _number(said, key)
    return None if number is None else EPOCH + timedelta(milliseconds=number)


def _names(values: Any) -> tuple[str, ...]:
    return tuple(value for value in values or () if isinstance(value, str) and value)


def _merged(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in lists for name in names))


def _one_each(manifests: Iterable[Listed]) -> tuple[Listed, ...]:
    found: dict[Digest, Listed] = {}
    for manifest in manifests:
        before = found.get(manifest.digest)
        tags = _merged((before.tags, manifest.tags)) if before is not None else manifest.tags
        found[manifest.digest] = msgspec.structs.replace(manifest, tags=tags)
    return tuple(found.values())
