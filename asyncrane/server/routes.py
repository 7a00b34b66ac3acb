"""Which request is which: from method and path to a kind, a repository and an identifier.

The grammar is checked here, once, so that no name that reaches a storage can lead out of it (distribution-spec,
"Pulling manifests").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from asyncrane.errors import InvalidDigest, InvalidInput
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Repository, check_tag
from asyncrane.server.refusal import Refused, manifest_unknown, unsupported

_PATHS = (
    ("ping", re.compile(r"/v2/?")),
    ("token", re.compile(r"/token")),
    ("catalog", re.compile(r"/v2/_catalog")),
    ("tags", re.compile(r"/v2/(?P<name>.+)/tags/list")),
    ("manifest", re.compile(r"/v2/(?P<name>.+)/manifests/(?P<identifier>[^/]+)")),
    ("uploads", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?")),
    ("upload", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<identifier>[^/]+)")),
    ("blob", re.compile(r"/v2/(?P<name>.+)/blobs/(?P<identifier>[^/]+)")),
    ("referrers", re.compile(r"/v2/(?P<name>.+)/referrers/(?P<identifier>[^/]+)")),
)

_KINDS = {
    ("ping", "GET"): "ping",
    ("ping", "HEAD"): "ping",
    ("token", "GET"): "token",
    ("token", "POST"): "token",
    ("catalog", "GET"): "catalog",
    ("tags", "GET"): "tags",
    ("manifest", "GET"): "manifest-get",
    ("manifest", "HEAD"): "manifest-head",
    ("manifest", "PUT"): "manifest-put",
    ("manifest", "DELETE"): "manifest-delete",
    ("uploads", "POST"): "upload-post",
    ("upload", "PATCH"): "upload-patch",
    ("upload", "PUT"): "upload-put",
    ("upload", "GET"): "upload-status",
    ("upload", "DELETE"): "upload-delete",
    ("blob", "GET"): "blob-get",
    ("blob", "HEAD"): "blob-head",
    ("blob", "DELETE"): "blob-delete",
    ("referrers", "GET"): "referrers",
}

KINDS = frozenset(_KINDS.values()) | {"mount", "other"}
"""What a request can be. ``mount`` is a POST that asks for a blob of another repository."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. ``repository`` and ``identifier`` are unchecked text until :func:`checked`."""

    kind: str
    repository: str = ""
    identifier: str = ""

    @property
    def digest(self) -> Digest:
        """The identifier as a digest.

        :raises Refused: when it is none (400 DIGEST_INVALID)
        """
        return parse_digest(self.identifier)

    @property
    def by_digest(self) -> bool:
        """Whether a manifest is named by digest."""
        return ":" in self.identifier


def find_route(method: str, path: str, *, mounting: bool = False) -> Route:
    """The route of a request; the kind is ``other`` where nothing answers."""
    for place, pattern in _PATHS:
        if found := pattern.fullmatch(path):
            groups = found.groupdict()
            kind = _KINDS.get((place, method), "other")
            if kind == "upload-post" and mounting:
                kind = "mount"
            return Route(kind, groups.get("name") or "", groups.get("identifier") or "")
    return Route("other")


def check_route(route: Route, method: str, path: str) -> None:
    """Refuse what cannot name anything.

    :raises Refused: for an unknown path, a method nobody answers, a bad repository name, digest or tag
    """
    if route.kind == "other":
        if any(pattern.fullmatch(path) for _, pattern in _PATHS):
            raise unsupported(method)
        raise Refused(404, "NAME_UNKNOWN", "there is nothing at this path")
    if route.repository:
        check_name(route.repository)
    if route.kind.startswith("blob-") or route.kind == "referrers" or (route.by_digest and "manifest" in route.kind):
        _ = route.digest
    elif route.kind.startswith("manifest-"):
        _check_tag(route)


def check_name(name: str) -> str:
    """Return ``name`` if it is a repository's.

    :raises Refused: when it is not (400 NAME_INVALID)
    """
    try:
        return Repository.parse(f"localhost/{name}").path
    except InvalidInput as exc:
        raise Refused(400, "NAME_INVALID", "invalid repository name", detail={"name": name[:300]}) from exc


def parse_digest(text: str) -> Digest:
    """Read a digest.

    :raises Refused: when it is none, or of an unknown algorithm (400 DIGEST_INVALID)
    """
    try:
        return Digest.parse(text)
    except InvalidDigest as exc:
        raise Refused(400, "DIGEST_INVALID", str(exc)) from exc


def _check_tag(route: Route) -> None:
    try:
        check_tag(route.identifier)
    except InvalidInput as exc:
        if route.kind == "manifest-put":
            raise Refused(400, "TAG_INVALID", str(exc)) from exc
        raise manifest_unknown(route.identifier) from exc
