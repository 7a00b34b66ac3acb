"""Manifests, by tag and by digest (distribution-spec, "Pulling manifests", "Pushing Manifests")."""

from __future__ import annotations

import msgspec

from asyncrane.errors import ContentError, DigestMismatch, InvalidInput
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.media import is_nondistributable
from asyncrane.oci.reference import check_tag
from asyncrane.server.call import Call
from asyncrane.server.refusal import Refused, manifest_unknown
from asyncrane.server.reply import Reply
from asyncrane.server.storage import Storage

LARGEST = 4 * 1024 * 1024
"""Bytes of a manifest that is accepted (distribution-spec, "Pushing manifests")."""


def get_manifest(storage: Storage, call: Call) -> Reply:
    """The exact bytes that were pushed, whatever the client says it accepts: a conversion would change the digest."""
    manifest = storage.manifest(call.route.repository, _digest(storage, call))
    headers = {
        "Content-Type": manifest.media_type,
        "Docker-Content-Digest": manifest.digest,
        "ETag": f'"{manifest.digest}"',
    }
    if call.headers.get("If-None-Match") == headers["ETag"]:
        return Reply(304, headers)
    return Reply(
        200, {**headers, "Content-Length": str(manifest.size)}, b"" if call.method == "HEAD" else manifest.body
    )


async def put_manifest(storage: Storage, call: Call) -> Reply:
    """Store it if everything it is made of is here, then let the tags name it."""
    repository = call.route.repository
    manifest = _parse(await _body(call), call)
    _check_parts(storage, repository, manifest)
    tags = [call.route.identifier] if not call.route.by_digest else [_tag(tag) for tag in call.query.get("tag", ())]
    storage.put_manifest(repository, manifest)
    for tag in tags:
        storage.put_tag(repository, tag, manifest.digest)
    headers = {"Location": f"/v2/{repository}/manifests/{manifest.digest}", "Docker-Content-Digest": manifest.digest}
    if subject := manifest.subject:
        headers["OCI-Subject"] = subject.digest
    if call.route.by_digest and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return Reply(201, headers)


def delete_manifest(storage: Storage, call: Call) -> Reply:
    """A tag is taken away; a digest goes with every tag that names it."""
    digest = _digest(storage, call)
    if call.route.by_digest:
        storage.delete_manifest(call.route.repository, digest)
    else:
        storage.delete_tag(call.route.repository, call.route.identifier)
    return Reply(202)


def _digest(storage: Storage, call: Call) -> Digest:
    repository, identifier = call.route.repository, call.route.identifier
    digest = call.route.digest if call.route.by_digest else storage.index.tagged(repository, identifier)
    if digest is None or storage.index.manifest_size(repository, digest) is None:
        raise manifest_unknown(identifier)
    return digest


async def _body(call: Call) -> bytes:
    body = await call.read(LARGEST)
    if body is None:
        raise Refused(413, "SIZE_INVALID", f"a manifest may have {LARGEST} bytes")
    return body


def _parse(body: bytes, call: Call) -> Manifest:
    """Check the bytes against the digest and the Content-Type they were sent with."""
    declared = call.headers.get("Content-Type", "").partition(";")[0].strip()
    expected = call.route.digest if call.route.by_digest else None
    try:
        inner = msgspec.json.decode(body, type=_Typed).media_type
        manifest = Manifest.read(body, content_type=declared, digest=expected)
        _ = manifest.subject
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Refused(400, "MANIFEST_INVALID", f"the manifest cannot be read: {str(exc)[:200]}") from exc
    except DigestMismatch as exc:
        raise Refused(400, "DIGEST_INVALID", str(exc)) from exc
    except ContentError as exc:
        raise Refused(400, "MANIFEST_INVALID", str(exc)) from exc
    if inner and declared not in ("", inner):
        message = f"Content-Type {declared[:120]!r} is not the manifest's mediaType {inner[:120]!r}"
        raise Refused(400, "MANIFEST_INVALID", message)
    return manifest


class _Typed(msgspec.Struct, rename="camel"):
    media_type: str = ""


def _check_parts(storage: Storage, repository: str, manifest: Manifest) -> None:
    """Children and blobs must be here with the size that is claimed; the subject may come later or never."""
    index = storage.index
    for child in manifest.children():
        size = index.manifest_size(repository, child.digest)
        if size is None:
            # An index may also list what is not a manifest (image-spec, image-index.md, "manifests").
            size = index.blob_size(repository, child.digest)
        _check_part(child, size, "manifest")
    for blob in manifest.blobs():
        size = index.blob_size(repository, blob.digest)
        if size is None and (blob.urls or is_nondistributable(blob.media_type)):
            continue
        _check_part(blob, size, "blob")


def _check_part(part: Descriptor, size: int | None, what: str) -> None:
    if size is None:
        message = f"the manifest refers to a {what} that is not in this repository"
        raise Refused(404, "MANIFEST_BLOB_UNKNOWN", message, detail={"digest": part.digest})
    if part.size not in (-1, size):
        message = f"the {what} {part.digest} has {size} bytes, not {part.size}"
        raise Refused(400, "SIZE_INVALID", message, detail={"digest": part.digest})


def _tag(tag: str) -> str:
    try:
        return check_tag(tag)
    except InvalidInput as exc:
        raise Refused(400, "TAG_INVALID", str(exc)) from exc
