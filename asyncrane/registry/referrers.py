"""Referrers: the manifests attached to a manifest (distribution-spec, "Listing Referrers").

A registry without the referrers API keeps them in an index under the tag ``sha256-<hex>`` which clients maintain.
Nothing locks that tag: writers of this process take turns and write for each other, and everybody reads again what was
written, in case another process wrote in between.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import anyio

from asyncrane.errors import Denied, NotFound, RegistryError, ServerFault, UnsupportedManifest
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.registry import manifests
from asyncrane.registry.links import next_page, resolve, same_host, with_query
from asyncrane.registry.paging import MOST_PAGES, decode, first_page, following
from asyncrane.registry.trials import first
from asyncrane.transport.answer import Answer
from asyncrane.transport.challenge import pull_scope, push_scope
from asyncrane.transport.origin import Origin
from asyncrane.transport.redaction import bare_url

_UNSUPPORTED = frozenset({200, 400, 404, 405, 406})
"""200 is an error where the answer is a web page."""

_ABOUT_SOMETHING_ELSE = frozenset({"NAME_UNKNOWN", "MANIFEST_UNKNOWN"})
"""What a registry with the API may say of a repository or a subject that it does not have."""

_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
"""GHCR sends us to a web page of another host: that is not asked, whatever it would say."""

_HOPS = 5

_ROUNDS = 10
_trials: WeakKeyDictionary[Origin, anyio.Event] = WeakKeyDictionary()
_FALLBACK = re.compile(r"sha(?:256|512)-[0-9a-f]{64}")


def fallback_tag(subject: Digest) -> str:
    """The tag that stands in for the referrers API (distribution-spec, "Referrers Tag Schema")."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def is_fallback_tag(tag: str) -> bool:
    """Whether ``tag`` is one that stands in for the referrers API."""
    return _FALLBACK.fullmatch(tag) is not None


async def referrers(
    origin: Origin, path: str, subject: Digest, *, artifact_type: str = "", scopes: Sequence[str] = ()
) -> tuple[Descriptor, ...]:
    """The manifests attached to ``subject``, those of ``artifact_type`` if that is given.

    Only an index, or a clear "I do not have this", is an answer; everything else is raised.
    """
    scopes = scopes or (pull_scope(path),)
    found = None
    if origin.capabilities.referrers is not False:
        found = await _ask(origin, path, subject, artifact_type, scopes)
    if found is None:
        found = await _fallback(origin, path, subject, scopes)
    return tuple(d for d in found if not artifact_type or d.artifact_type == artifact_type)


async def attached(
    origin: Origin, path: str, subject: Digest, *, fallback: bool, scopes: Sequence[str] = ()
) -> tuple[tuple[Descriptor, ...], bool]:
    """The manifests attached to ``subject``, and whether the registry has the referrers API; without it ``fallback``
    reads the tag that stands in for it.
    """
    scopes = scopes or (pull_scope(path),)
    found = None
    if origin.capabilities.referrers is not False:
        found = await _ask(origin, path, subject, "", scopes)
    if found is not None:
        return tuple(found), True
    return tuple(await _fallback(origin, path, subject, scopes)) if fallback else (), False


async def announce(origin: Origin, path: str, manifest: Manifest, said: Mapping[str, str]) -> None:
    """After the push of ``manifest``, answered with the headers ``said``: make it known to its subject's referrers.

    Nothing to do for a manifest without subject, and where the registry does it itself.

    :raises UnsupportedManifest: when something else than an index is under the fallback tag
    """
    if b'"subject"' not in manifest.body or (subject := manifest.subject) is None:
        return
    if origin.capabilities.referrers is None:
        found = await _ask(origin, path, subject.digest, "", (push_scope(path),))
        if found is None and origin.capabilities.referrers is None and said.get("OCI-Subject"):
            return
    if not origin.capabilities.referrers:  # whatever was said: ECR says so without the API (sigstore-js#1183)
        await _register(origin, path, subject.digest, manifest)


async def _ask(
    origin: Origin, path: str, subject: Digest, artifact_type: str, scopes: Sequence[str]
) -> list[Descriptor] | None:
    """What the referrers API answers; ``None`` when there is no such API."""
    if origin.capabilities.referrers is None:
        async with first(_trials, origin):
            return None if _lacks_api(origin) else await _list(origin, path, subject, artifact_type, scopes)
    return await _list(origin, path, subject, artifact_type, scopes)


def _lacks_api(origin: Origin) -> bool:
    return origin.capabilities.referrers is False


async def _list(
    origin: Origin, path: str, subject: Digest, artifact_type: str, scopes: Sequence[str]
) -> list[Descriptor] | None:
    target: str | None = f"/v2/{path}/referrers/{subject}"
    if artifact_type:
        target = with_query(str(target), artifactType=artifact_type)
    found: list[Descriptor] = []
    asked: set[str] = set()
    shown: set[int] = set()
    while target is not None and target not in asked:
        asked.add(target)
        try:
            answer = await _page(origin, target, scopes)
        except RegistryError as error:
            if error.status not in _UNSUPPORTED or len(asked) > 1:
                raise
            if origin.capabilities.referrers is None and _ABOUT_SOMETHING_ELSE.isdisjoint(error.codes):
                origin.capabilities.referrers = False
            return None
        if answer.status != 200 or not _is_index(answer):
            if len(asked) > 1:
                raise RegistryError(
                    f"GET {bare_url(answer.url)}: a page of referrers is not an index", status=answer.status
                )
            origin.capabilities.referrers = False
            return None
        found.extend(Descriptor.read(entry) for entry in decode(answer).get("manifests") or ())
        link = next_page(answer)
        target = following(answer, link) if link else None
        if (page := hash(answer.body)) in shown or len(asked) > MOST_PAGES:
            raise ServerFault(f"GET {bare_url(answer.url)}: pages without end: {len(asked)} so far", status=200)
        shown.add(page)
    if target is not None:
        raise RegistryError(f"GET {target}: the next page of referrers is an earlier one")
    origin.capabilities.referrers = True
    return found


async def _page(origin: Origin, target: str, scopes: Sequence[str]) -> Answer:
    """What is answered there, or where else at the same host."""
    for _ in range(_HOPS):
        answer = await first_page(origin, target, scopes=scopes, expect=(200, *_REDIRECTIONS))
        there = resolve(answer.url, answer.headers.get("Location", ""))
        if answer.status == 200 or not same_host(answer.url, there):
            return answer
        target = there
    raise ServerFault(f"GET {bare_url(target)}: redirected again and again", status=answer.status)


def _is_index(answer: Answer) -> bool:
    """GHCR redirects to a web page, others answer an unknown path with one; an index that is called JSON is one."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return kind == media.OCI_INDEX
    try:
        return isinstance(decode(answer).get("manifests"), list)
    except ServerFault:
        return False


async def _fallback(origin: Origin, path: str, subject: Digest, scopes: Sequence[str]) -> list[Descriptor]:
    index = await _read(origin, path, fallback_tag(subject), scopes)
    return list(index.children()) if index is not None and index.is_index else []


async def _read(origin: Origin, path: str, tag: str, scopes: Sequence[str]) -> Manifest | None:
    try:
        return await manifests.fetch(origin, path, tag, scopes=scopes)
    except (NotFound, Denied):  # as Artifactory says of a tag that is not there (ggcr#1691)
        return None


class _Turns:
    """Who wants to write one fallback tag."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting: dict[Digest, dict[str, Any]] = {}


_turns: WeakValueDictionary[tuple[int, str, str, str], _Turns] = WeakValueDictionary()


async def _register(origin: Origin, path: str, subject: Digest, manifest: Manifest) -> None:
    tag = fallback_tag(subject)
    key = (id(asyncio.get_running_loop()), origin.registry, path, tag)
    turns = _turns.setdefault(key, _Turns())
    turns.waiting[manifest.digest] = _entry(manifest)
    try:
        async with turns.lock:
            if manifest.digest in turns.waiting:  # else whoever had the lock before has written it too
                batch = dict(turns.waiting)
                await _merge(origin, path, tag, batch)
                for digest in batch:
                    turns.waiting.pop(digest, None)
    finally:
        turns.waiting.pop(manifest.digest, None)


async def _merge(origin: Origin, path: str, tag: str, batch: Mapping[Digest, dict[str, Any]]) -> None:
    """Add ``batch`` to the index under ``tag`` until it is seen there."""
    for _ in range(_ROUNDS):
        index = await _read(origin, path, tag, (push_scope(path),))
        if index is not None and not index.is_index:
            raise UnsupportedManifest(f"{origin.registry}/{path}:{tag} is not an index: referrers cannot be added")
        listed = {child.digest for child in index.children()} if index is not None else set()
        missing = [entry for digest, entry in batch.items() if digest not in listed]
        if not missing:
            return
        await manifests.push(origin, path, _extended(index, missing), tag)
    raise RegistryError(f"{origin.registry}/{path}:{tag}: what is written to the referrers' index does not stay there")


def _extended(index: Manifest | None, entries: Sequence[dict[str, Any]]) -> Manifest:
    empty: dict[str, Any] = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": []}
    fields = index.fields() if index is not None else empty
    fields["manifests"] = [*(fields.get("manifests") or ()), *entries]
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    return Manifest.read(body, content_type=index.media_type if index is not None else media.OCI_INDEX)


def _entry(manifest: Manifest) -> dict[str, Any]:
    entry: dict[str, Any] = {"mediaType": manifest.media_type, "digest": str(manifest.digest), "size": manifest.size}
    if manifest.artifact_type:
        entry["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        entry["annotations"] = manifest.annotations
    return entry
