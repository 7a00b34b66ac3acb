"""Manifests: HEAD, GET, PUT, DELETE (distribution-spec, "Pulling manifests", "Pushing Manifests")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncrane.errors import (
    AsyncraneError,
    ContentError,
    Denied,
    DigestMismatch,
    InvalidDigest,
    NotFound,
    RegistryError,
)
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import LARGEST, Manifest
from asyncrane.transport.challenge import delete_scope, pull_scope, push_scope
from asyncrane.transport.origin import Origin
from asyncrane.transport.redaction import bare_url

_ACCEPT = {"Accept": media.ACCEPT}
_PERHAPS_DONE = frozenset({400, 403, 405, 409, 412})


async def fetch(origin: Origin, path: str, identifier: str, *, scopes: Sequence[str] = ()) -> Manifest:
    """The manifest ``identifier`` (a tag or digest) names, checked against a digest.

    :raises NotFound: when it names nothing
    :raises ContentError: when the bytes are not that manifest
    """
    answer = await origin.request(
        "GET", _target(path, identifier), scopes=scopes or (pull_scope(path),), headers=_ACCEPT, limit=LARGEST
    )
    asked = _digest(identifier)
    try:
        return Manifest.read(answer.body, content_type=answer.headers.get("Content-Type", ""), digest=asked)
    except ContentError as error:
        raise type(error)(f"GET {answer.url.partition('?')[0]}: {error}") from error


async def head(origin: Origin, path: str, identifier: str, *, scopes: Sequence[str] = ()) -> Descriptor:
    """What ``identifier`` names. A registry that answers HEAD without the digest is asked with GET.

    :raises NotFound: when it names nothing
    """
    answer = await origin.request(
        "HEAD", _target(path, identifier), scopes=scopes or (pull_scope(path),), headers=_ACCEPT, expect=(200, 405)
    )
    asked, said = _digest(identifier), _digest(answer.headers.get("Docker-Content-Digest", ""))
    digest = said or asked
    length = answer.headers.get("Content-Length", "")
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    if said is None and kind == "text/html":
        kind = ""  # a web page, in which nobody was asked for this digest
    if answer.status != 200 or digest is None or (asked and digest != asked) or not length.isdigit() or not kind:
        return (await fetch(origin, path, identifier, scopes=scopes)).descriptor
    return Descriptor(kind, digest, int(length))


async def probe(origin: Origin, path: str, identifier: str, *, scopes: Sequence[str] = ()) -> Descriptor | None:
    """What ``identifier`` names, ``None`` when it names nothing.

    403 counts as nothing: Artifactory says so for what is not there (ggcr#1691), and a real refusal comes back at the
    first write.
    """
    try:
        return await head(origin, path, identifier, scopes=scopes)
    except (NotFound, Denied):
        return None


async def push(origin: Origin, path: str, manifest: Manifest, tag: str | None = None) -> Mapping[str, str]:
    """Store the exact bytes of ``manifest`` under ``tag`` or its digest; what the registry said about it.

    :raises DigestMismatch: when the registry computed another digest
    """
    try:
        answer = await origin.request(
            "PUT",
            _target(path, tag or manifest.digest),
            scopes=(push_scope(path),),
            headers={"Content-Type": manifest.media_type},
            body=manifest.body,
            expect=(200, 201, 202),
        )
    except RegistryError as error:
        # An immutable tag refuses the repetition of a PUT whose answer was lost, and ECR even the same digest.
        if tag is None or error.status not in _PERHAPS_DONE or not await _names(origin, path, tag, manifest):
            raise
        return {}
    stored = _digest(answer.headers.get("Docker-Content-Digest", ""))
    if stored is not None and not _same(stored, manifest):
        raise DigestMismatch(f"PUT {bare_url(answer.url)}: the registry stored {manifest.digest!s} as {stored!s}")
    return answer.headers


async def delete(origin: Origin, path: str, identifier: str) -> None:
    """Delete a tag, or by digest the manifest and all tags that name it. A tag is never turned into its digest.

    :raises NotFound: when it names nothing
    """
    await origin.request("DELETE", _target(path, identifier), scopes=(delete_scope(path),), expect=(200, 202, 204))


async def _names(origin: Origin, path: str, tag: str, manifest: Manifest) -> bool:
    try:
        found = await probe(origin, path, tag, scopes=(push_scope(path),))
    except AsyncraneError:
        return False  # the error of the PUT says more
    return found is not None and found.digest == manifest.digest


def _same(stored: Digest, manifest: Manifest) -> bool:
    if stored.algorithm == manifest.digest.algorithm:
        return stored == manifest.digest
    return stored == Digest.of(manifest.body, stored.algorithm)


def _target(path: str, identifier: str) -> str:
    return f"/v2/{path}/manifests/{identifier}"


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None
