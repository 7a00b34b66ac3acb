"""Access logs become requests, and requests become the counts that are held against the claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.accesslog import Request, counts, parse, read
from benchmarks.claims import claims
from benchmarks.client import AGENT
from benchmarks.fill import Blob, Filled, Tag

if TYPE_CHECKING:
    from pathlib import Path

D1, D2 = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def line(request: str, status: int, size: int = 0, agent: str = "crane/v0") -> bytes:
    return f'127.0.0.1 - - [23/Nov/2026:07:00:00 +0000] "{request} HTTP/1.1" {status} {size} "" "{agent}"'.encode()


@pytest.mark.parametrize(
    ("request_line", "status", "expected"),
    [
        ("GET /v2/", 200, Request("GET", "ping", 200)),
        ("GET /v2/a/b/tags/list?n=1000", 200, Request("GET", "tags", 200, "a/b")),
        ("HEAD /v2/a/b/manifests/v1", 404, Request("HEAD", "manifest", 404, "a/b", "v1")),
        (f"GET /v2/a/b/blobs/{D1}", 200, Request("GET", "blob", 200, "a/b", D1)),
        (f"POST /v2/a/b/blobs/uploads/?mount={D1}&from=c", 201, Request("POST", "mount", 201, "a/b", D1)),
        ("POST /v2/a/b/blobs/uploads/", 202, Request("POST", "upload", 202, "a/b")),
        ("PATCH /v2/a/b/blobs/uploads/id?_state=x", 202, Request("PATCH", "upload", 202, "a/b")),
        (
            f"PUT /v2/a/b/blobs/uploads/id?_state=x&digest={D1.replace(':', '%3A')}",
            201,
            Request("PUT", "upload", 201, "a/b", D1),
        ),
        ("GET /v2/_catalog", 200, Request("GET", "other", 200)),
    ],
)
def test_a_line_is_a_request_with_its_kind(request_line: str, status: int, expected: Request) -> None:
    """The kind of a request is read from method, path and query."""
    assert parse(line(request_line, status)) == expected


def test_the_harness_and_noise_are_no_requests(tmp_path: Path) -> None:
    """What the harness asks is not the runner's; a run's requests begin where the log ended before it."""
    log = tmp_path / "access.log"
    before = line("GET /v2/", 200) + b"\n"
    log.write_bytes(before + line("GET /v2/", 200, agent=AGENT) + b"\nlevel=error\n" + line("GET /v2/x/tags/list", 200))
    assert [one.kind for one in read(log, start=len(before))] == ["tags"]


def test_counts_tell_a_mount_that_was_done_from_one_that_opened_an_upload() -> None:
    """201 is a blob for nothing, 202 the beginning of an upload."""
    requests = [Request("POST", "mount", 201), Request("POST", "mount", 202), Request("POST", "mount", 202)]
    assert counts(requests) == {"POST mount (done)": 1, "POST mount (opened an upload)": 2}


def filled() -> Filled:
    """Two repositories share D1; one has D2 besides."""
    shared, own = Blob(D1, 10), Blob(D2, 20)
    return Filled((Tag("a", "v1", "sha256:m1", (shared, own)), Tag("b", "v1", "sha256:m2", (shared,))))


def perfect() -> tuple[list[Request], list[Request]]:
    """The requests of a copy that moves each blob once."""
    reads = [Request("GET", "blob", 200, "a", D1), Request("GET", "blob", 200, "a", D2)]
    writes = [
        Request("POST", "mount", 202, "a", D1),
        Request("PUT", "upload", 201, "a", D1),
        Request("POST", "upload", 202, "a"),
        Request("PUT", "upload", 201, "a", D2),
        Request("POST", "mount", 201, "b", D1),
    ]
    return reads, writes


def test_a_copy_that_moves_each_blob_once_holds_every_claim() -> None:
    """Read once, uploaded once, mounted into the second repository."""
    assert all(claim.holds for claim in claims(filled(), *perfect()))


@pytest.mark.parametrize(
    ("side", "extra", "broken"),
    [
        (0, Request("GET", "blob", 200, "b", D1), "most GETs of one blob"),
        (1, Request("PUT", "upload", 201, "b", D1), "most uploads of one blob"),
        (1, Request("HEAD", "blob", 404, "b", D1), "blob HEADs at the destination"),
        (1, Request("PATCH", "upload", 202, "b"), "PATCHes"),
        (1, Request("POST", "mount", 202, "b", D1), "uploads opened (POST, 202)"),
    ],
)
def test_one_request_too_many_breaks_a_claim(side: int, extra: Request, broken: str) -> None:
    """The claims are exact counts, so that nothing can hide in a sum."""
    requests = perfect()
    requests[side].append(extra)
    assert broken in {claim.name for claim in claims(filled(), *requests) if not claim.holds}
