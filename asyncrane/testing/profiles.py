"""Registries as they are: each function makes a registry with what one of the known ones does otherwise.

    async with ghcr() as registry:
        ...

They differ in what has been observed of them, vendors change things, and not everything is here: threads where it was
seen are named. ``PROFILES`` has them all by name.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from urllib.parse import parse_qsl, urlencode

import msgspec

from asyncrane.server.call import Call, Handler
from asyncrane.server.refusal import error_reply
from asyncrane.server.reply import Reply
from asyncrane.server.routes import find_route, parse_digest
from asyncrane.testing.faults import (
    Fault,
    fault,
    limit_body,
    no_referrers,
    refuse_mount,
    set_headers,
    status,
)
from asyncrane.testing.registry import FaultyRegistry

MIB = 1024 * 1024

_BEGINS = ("mount", "upload-post")
_MANIFESTS = ("manifest-get", "manifest-head")


def docker_hub() -> FaultyRegistry:
    """Blobs come from another host; no referrers (docker/roadmap#724), no catalog, nothing is deleted
    (hub-feedback#2360), a mount with ``origin`` is 401 (ggcr#1741), and manifests come with what is left of the quota.
    """
    registry = FaultyRegistry(storage_host=True)
    quota: dict[str, str | None] = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}
    registry.faults.add(
        set_headers(quota, kind=_MANIFESTS),
        status(401, error="UNAUTHORIZED", kind="mount", where=lambda call: bool(call.ask("origin"))),
        status(404, error="UNSUPPORTED", kind="catalog"),
        _deletes_nothing(),
        no_referrers(),
    )
    return registry


def ecr(*repositories: str) -> FaultyRegistry:
    """Only ``repositories`` are there, and none is made by a push; nothing is mounted unless that was switched on;
    pieces have 5 to 10 MiB but for the last (sdk-container-builds#424), are answered with 201 and with the Range of the
    first (containers-roadmap#2831); no more than 1,000 tags at once (ggcr#1091); and a subject is said to be understood
    where there are no referrers (sigstore-js#1183).
    """
    registry = FaultyRegistry()
    registry.faults.add(
        _only(repositories),
        _large_pieces(5 * MIB, 10 * MIB),
        refuse_mount(),
        status(400, error="INVALID_PARAMETER", kind="tags", where=lambda call: int(call.ask("n") or 1) > 1000),
        status(404, headers={"Content-Type": "text/plain"}, body=b"404 page not found", kind="referrers"),
    )
    return registry


def ghcr() -> FaultyRegistry:
    """Pieces have up to 4 MiB, whole blobs any size (tart#179, ocx#237); the referrers are said to be on a web page
    elsewhere, which has had enough (artifacthub#4785, attest-build-provenance#71); nothing is deleted (skopeo#1880).
    """
    registry = FaultyRegistry()

    async def elsewhere(call: Call, handler: Handler) -> Reply:
        if call.route.kind == "referrers":
            port = registry.address.rpartition(":")[2]
            return Reply(303, {"Location": f"http://localhost:{port}/-/v2/packages{call.path}"})
        reply = await handler(call)
        return replace(reply, headers={name: value for name, value in reply.headers.items() if name != "OCI-Subject"})

    registry.faults.add(
        fault("referrers elsewhere", elsewhere, kind=("referrers", "manifest-put")),
        status(429, headers={"Content-Type": "text/html"}, body=b"<html>slow down", kind="other", path="^/-/"),
        _small_pieces(4 * MIB),
        _deletes_nothing(),
    )
    return registry


def gar() -> FaultyRegistry:
    """Google's: blobs come in one piece only (kitops#777), to a path of its own; lists have children and manifests, a
    manifest goes only after its tags (kube-image-keeper#636), and there is no catalog.
    """
    registry = FaultyRegistry(google=True)
    registry.faults.add(
        status(400, error="UNSUPPORTED", kind="other", where=lambda call: "Content-Range" in call.headers),
        _own_locations("/artifacts-uploads"),
    )
    return registry


def acr(limit: int = 20 * MIB) -> FaultyRegistry:
    """A PUT of more than ``limit`` is too large (harbor#23015), a piece says how long it is (harbor PR#23016), and what
    was interrupted is over (azure-sdk-for-net#35322).
    """
    registry = FaultyRegistry()
    registry.faults.add(
        limit_body(limit, kind="upload-put"),
        status(400, error="CONTENT_LENGTH_INVALID", kind="upload-patch", where=lambda call: call.length < 0),
        status(404, error="BLOB_UPLOAD_INVALID", kind="upload-status"),
    )
    return registry


def harbor(*projects: str) -> FaultyRegistry:
    """Only ``projects`` are there, and nothing is mounted from one into another: 401, and a challenge for Basic
    (harbor#17097); a tag is not deleted by its name.
    """

    def project(path: str) -> str:
        return path.partition("/")[0]

    registry = FaultyRegistry()
    challenge = {"WWW-Authenticate": 'Basic realm="harbor"'}
    registry.faults.add(
        status(
            404,
            error="NAME_UNKNOWN",
            kind=(*_BEGINS, "manifest-put"),
            where=lambda call: project(call.route.repository) not in projects,
        ),
        status(
            401,
            headers=challenge,
            error="UNAUTHORIZED",
            kind="mount",
            where=lambda call: project(call.ask("from")) != project(call.route.repository),
        ),
        status(400, error="UNSUPPORTED", kind="manifest-delete", where=lambda call: not call.route.by_digest),
    )
    return registry


def quay(page: int = 50) -> FaultyRegistry:
    """Tags come by ``page``, whatever is asked for, and the next are behind a word that only Quay understands
    (docker_registry2#56); a mount says where from (quay PR#899).
    """
    registry = FaultyRegistry(page=page)
    registry.faults.add(
        _opaque_pages(), status(400, error="BLOB_UPLOAD_INVALID", kind="mount", where=lambda call: not call.ask("from"))
    )
    return registry


def artifactory(limit: int = 10 * MIB) -> FaultyRegistry:
    """What is not there is forbidden (ggcr#1691); a PUT of more than ``limit`` finds nothing (containerd#3533,
    tart#120), which a PATCH does; digests are among the tags (skopeo#2346).
    """
    registry = FaultyRegistry()

    async def forbidden(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        return error_reply(403, "DENIED", "not there, or not for you") if reply.status == 404 else reply

    async def digests(call: Call, handler: Handler) -> Reply:
        manifests = registry.storage.index.manifests(call.route.repository)
        return _with_tags(await handler(call), lambda tags: [*tags, *map(str, manifests)])

    registry.faults.add(
        fault("forbidden", forbidden, kind=_MANIFESTS),
        status(404, error="BLOB_UNKNOWN", kind="upload-put", where=lambda call: call.length > limit),
        fault("digests", digests, kind="tags"),
    )
    return registry


def nexus() -> FaultyRegistry:
    """Nothings are among the tags (skopeo#2409), a manifest says how long it is (nexus-public#1040), and there are no
    referrers.
    """
    registry = FaultyRegistry()

    async def nothings(call: Call, handler: Handler) -> Reply:
        return _with_tags(await handler(call), lambda tags: [None, *tags, None])

    registry.faults.add(
        fault("nothings", nothings, kind="tags"),
        status(411, error="MANIFEST_INVALID", kind="manifest-put", where=lambda call: call.length < 0),
        no_referrers(),
    )
    return registry


def zot() -> FaultyRegistry:
    """Docker's media types are not taken (415); what any repository has is mounted, whatever ``from`` says, which alone
    is nothing (405); who may read unasked is challenged all the same, with a realm in no quotes.
    """
    registry = FaultyRegistry()

    async def mount(call: Call, handler: Handler) -> Reply:
        index, digest = registry.storage.index, parse_digest(call.ask("mount"))
        having = [name for name in index.repositories() if index.blob_size(name, digest) is not None]
        query = {**call.query, "from": tuple(having[:1])}
        return await handler(replace(call, query=query))

    async def challenged(call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        challenge = f"bearer realm={registry.url}/token,service={registry.address}"
        return replace(reply, headers={**reply.headers, "WWW-Authenticate": challenge})

    registry.faults.add(
        fault("mount", mount, kind="mount"),
        fault("challenged", challenged, kind="ping"),
        status(405, error="UNSUPPORTED", kind="upload-post", where=lambda call: bool(call.ask("from"))),
        status(415, error="MANIFEST_INVALID", kind="manifest-put", where=_is_docker),
    )
    return registry


def gitlab() -> FaultyRegistry:
    """Nothing is mounted: 401 (manifest-tool#53); there are no referrers (docker/compose#13428)."""
    registry = FaultyRegistry()
    registry.faults.add(refuse_mount(401, where=lambda call: call.ask("from") != call.route.repository), no_referrers())
    return registry


def distribution_2_8() -> FaultyRegistry:
    """docker-registry: there are no referrers, tags come all at once, an upload goes on at its newest Location only,
    and a tag cannot be deleted by its name (ggcr#1578), nor anything else unless that was switched on.
    """
    registry = FaultyRegistry(page=1_000_000, locations="opaque")

    async def everything(call: Call, handler: Handler) -> Reply:
        return await handler(replace(call, query={name: said for name, said in call.query.items() if name != "n"}))

    registry.faults.add(
        fault("everything", everything, kind="tags"),
        status(400, error="DIGEST_INVALID", kind="manifest-delete", where=lambda call: not call.route.by_digest),
        _deletes_nothing(),
        no_referrers(),
    )
    return registry


PROFILES: Mapping[str, Callable[..., FaultyRegistry]] = MappingProxyType(
    {
        "acr": acr,
        "artifactory": artifactory,
        "distribution-2.8": distribution_2_8,
        "docker-hub": docker_hub,
        "ecr": ecr,
        "gar": gar,
        "ghcr": ghcr,
        "gitlab": gitlab,
        "harbor": harbor,
        "nexus": nexus,
        "quay": quay,
        "zot": zot,
    }
)


def _deletes_nothing() -> Fault:
    return status(405, error="UNSUPPORTED", kind=("manifest-delete", "blob-delete"))


def _only(repositories: Collection[str]) -> Fault:
    return status(
        404,
        error="NAME_UNKNOWN",
        kind=(*_BEGINS, "manifest-put"),
        where=lambda call: call.route.repository not in repositories,
    )


def _is_docker(call: Call) -> bool:
    return call.headers.get("Content-Type", "").startswith("application/vnd.docker.")


def _small_pieces(most: int) -> Fault:
    """A piece of more is out of range, and nothing is said about where to go on."""
    return status(
        416,
        error="RANGE_INVALID",
        kind="upload-patch",
        where=lambda call: "Content-Range" in call.headers and call.length > most,
    )


def _large_pieces(least: int, most: int) -> Fault:
    """A piece after one of less than ``least`` is refused; the Range of the first is all that is ever told."""
    firsts: dict[str, str] = {}
    small: set[str] = set()

    async def effect(call: Call, handler: Handler) -> Reply:
        upload = call.route.identifier
        if "Content-Range" in call.headers:
            if upload in small or call.length > most:
                return error_reply(400, "BLOB_UPLOAD_INVALID", "LayerPartTooSmall, or too large")
            if call.length < least:
                small.add(upload)
        reply = await handler(call)
        if reply.status != 202:
            return reply
        said = firsts.setdefault(upload, reply.headers["Range"])
        return replace(reply, status=201, headers={**reply.headers, "Range": said})

    return fault("large pieces", effect, kind="upload-patch")


def _own_locations(prefix: str) -> Fault:
    """Uploads go on below ``prefix``."""

    async def effect(call: Call, handler: Handler) -> Reply:
        if call.route.kind == "other":
            path = call.path.removeprefix(prefix)
            call = replace(call, path=path, route=find_route(call.method, path))
        reply = await handler(call)
        location = reply.headers.get("Location", "")
        if "/blobs/uploads/" not in location:
            return reply
        return replace(reply, headers={**reply.headers, "Location": prefix + location})

    return fault("own locations", effect, kind=(*_BEGINS, "other"), path=f"^(?:{prefix}|/v2)/.*/blobs/uploads/")


def _opaque_pages() -> Fault:
    async def effect(call: Call, handler: Handler) -> Reply:
        if word := call.ask("next_page"):
            query = base64.urlsafe_b64decode(word).decode()
            call = replace(call, raw_query=query, query={name: (value,) for name, value in parse_qsl(query)})
        reply = await handler(call)
        link = reply.headers.get("Link")
        if link is None:
            return reply
        target, _, rest = link.removeprefix("<").partition(">")
        path, _, query = target.partition("?")
        word = base64.urlsafe_b64encode(query.encode()).decode()
        return replace(reply, headers={**reply.headers, "Link": f"<{path}?{urlencode({'next_page': word})}>{rest}"})

    return fault("opaque pages", effect, kind=("tags", "catalog"))


def _with_tags(reply: Reply, change: Callable[[list[str]], list[str | None]]) -> Reply:
    """A list of tags that was changed."""
    if reply.status != 200 or not isinstance(reply.body, bytes):
        return reply
    said = msgspec.json.decode(reply.body)
    return Reply.of_json({**said, "tags": change(said["tags"])}, headers=dict(reply.headers))
