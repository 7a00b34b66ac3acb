"""What a registry was asked: its access log (Apache's combined format) as values."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from .client import AGENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LINE = re.compile(rb'"([A-Z]+) (\S+) HTTP/[0-9.]+" (\d{3}) (\d+|-) "[^"]*" "([^"]*)"\s*$')
_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<what>manifests/|blobs/uploads/|blobs/|tags/list|referrers/)(?P<rest>.*)")
_KINDS = {"manifests/": "manifest", "blobs/": "blob", "tags/list": "tags", "referrers/": "referrers"}


@dataclass(frozen=True)
class Request:
    """One answered request; ``kind`` is ping, manifest, blob, upload, mount, tags, referrers or other."""

    method: str
    kind: str
    status: int
    repository: str = ""
    reference: str = ""  # a tag or digest; for a mount or the end of an upload the blob's digest
    size: int = 0  # bytes of the answer's body


def parse(line: bytes) -> Request | None:
    """The request of a line, ``None`` when the line is not one, or is the harness's own."""
    found = _LINE.search(line)
    if found is None or found[5].decode(errors="replace").startswith(AGENT):
        return None
    method, status = found[1].decode(), int(found[3])
    size = 0 if found[4] == b"-" else int(found[4])
    url = urlsplit(found[2].decode(errors="replace"))
    if url.path.rstrip("/") == "/v2":
        return Request(method, "ping", status, size=size)
    path = _PATH.fullmatch(url.path)
    if path is None:
        return Request(method, "other", status, size=size)
    if path["what"] != "blobs/uploads/":
        return Request(method, _KINDS[path["what"]], status, path["name"], path["rest"], size)
    query = parse_qs(url.query)
    kind = "mount" if method == "POST" and "mount" in query else "upload"
    digest = next(iter(query.get("mount", []) or query.get("digest", [])), "")
    return Request(method, kind, status, path["name"], digest, size)


def read(log: Path, *, start: int = 0, end: int | None = None) -> list[Request]:
    """The requests between two positions of a log, in the order they were answered."""
    with log.open("rb") as lines:
        lines.seek(start)
        chunk = lines.read() if end is None else lines.read(end - start)
    return [request for line in chunk.splitlines() if (request := parse(line)) is not None]


def counts(requests: Iterable[Request]) -> dict[str, int]:
    """How many of each method and kind, e.g. ``{"GET blob": 16}``; mounts are told apart by what came of them."""
    return dict(sorted(Counter(_name(request) for request in requests).items()))


def _name(request: Request) -> str:
    if request.kind != "mount":
        return f"{request.method} {request.kind}"
    return f"{request.method} mount ({'done' if request.status == 201 else 'opened an upload'})"


def successes(requests: Iterable[Request], method: str, kind: str) -> Iterator[Request]:
    """The requests of a method and kind that the registry granted."""
    return (one for one in requests if one.method == method and one.kind == kind and one.status < 400)
