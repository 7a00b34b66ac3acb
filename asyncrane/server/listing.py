"""Tags, catalog and referrers, page by page (distribution-spec, "Listing Tags", "Listing Referrers")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from asyncrane.oci.manifest import Manifest
from asyncrane.oci.media import OCI_INDEX
from asyncrane.server.call import Call
from asyncrane.server.refusal import Refused, name_unknown
from asyncrane.server.reply import Reply
from asyncrane.server.storage import Storage

Name = TypeVar("Name", bound=str)


def list_tags(storage: Storage, call: Call, *, page: int) -> Reply:
    """The tags of one repository, in the order of their bytes."""
    name = call.route.repository
    if not storage.index.has(name):
        raise name_unknown(name)
    tags, headers = _page(storage.index.tags(name), call, page)
    return Reply.of_json({"name": name, "tags": tags}, headers=headers)


def list_repositories(storage: Storage, call: Call, *, page: int) -> Reply:
    """Every repository (Docker's registry API, "Catalog")."""
    names, headers = _page(storage.index.repositories(), call, page)
    return Reply.of_json({"repositories": names}, headers=headers)


def list_referrers(storage: Storage, call: Call, *, page: int) -> Reply:
    """The manifests that have this digest as their subject, as an index; none is an empty index."""
    repository = call.route.repository
    found = storage.index.referrers(repository, call.route.digest)
    wanted = call.ask("artifactType")
    if wanted:
        found = [digest for digest in found if storage.manifest(repository, digest).artifact_type == wanted]
    digests, headers = _page(found, call, page)
    headers["Content-Type"] = OCI_INDEX
    if wanted:
        headers["OCI-Filters-Applied"] = "artifactType"
    manifests = [_descriptor(storage.manifest(repository, digest)) for digest in digests]
    return Reply.of_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}, headers=headers)


def _page(items: Sequence[Name], call: Call, page: int) -> tuple[Sequence[Name], dict[str, str]]:
    """What follows ``last``, at most ``n``; the Link header where there is more."""
    count = min(_count(call, page), page)
    if last := call.ask("last"):
        items = [item for item in items if item > last]
    shown = items[:count]
    if not shown or len(shown) == len(items):
        return shown, {}
    query = {"last": shown[-1], "n": str(count)}
    if wanted := call.ask("artifactType"):
        query["artifactType"] = wanted
    return shown, {"Link": f'<{call.path}?{urlencode(query)}>; rel="next"'}


def _count(call: Call, page: int) -> int:
    text = call.ask("n")
    if not text:
        return page
    if not (text.isascii() and text.isdigit()):
        raise Refused(400, "PAGINATION_NUMBER_INVALID", f"n={text[:40]!r} is not a number of entries")
    return int(text[:9])


def _descriptor(manifest: Manifest) -> dict[str, Any]:
    described: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
    }
    if artifact_type := manifest.artifact_type:
        described["artifactType"] = artifact_type
    if annotations := manifest.annotations:
        described["annotations"] = annotations
    return described
