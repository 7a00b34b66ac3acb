"""Reading and deleting blobs (distribution-spec, "Pulling blobs"), whole or one range (RFC 9110, section 14)."""

from __future__ import annotations

import re

from asyncrane.server.call import Call
from asyncrane.server.refusal import Refused, blob_unknown
from asyncrane.server.reply import Reply, Stream
from asyncrane.server.storage import Storage

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


def head_blob(storage: Storage, call: Call) -> Reply:
    """Whether it is here, and how long it is."""
    size = _size(storage, call)
    return Reply(200, {**_headers(call), "Content-Length": str(size)})


def get_blob(storage: Storage, call: Call) -> Reply:
    """The content: 200, or 206 for one range; several ranges are answered with everything."""
    size = _size(storage, call)
    headers = _headers(call)
    wanted = _wanted(call, size)
    if wanted is None:
        start, stop = 0, size
    else:
        start, stop = wanted
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    digest = call.route.digest
    body = Stream.of(stop - start, lambda: storage.pieces(digest, start, stop))
    return Reply(200 if wanted is None else 206, headers, body)


def delete_blob(storage: Storage, call: Call) -> Reply:
    """Take it out of this repository; others keep it."""
    _size(storage, call)
    storage.unlink(call.route.repository, call.route.digest)
    return Reply(202)


def _size(storage: Storage, call: Call) -> int:
    size = storage.index.blob_size(call.route.repository, call.route.digest)
    if size is None:
        raise blob_unknown(call.route.identifier)
    return size


def _headers(call: Call) -> dict[str, str]:
    digest = call.route.digest
    return {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
    }


def _wanted(call: Call, size: int) -> tuple[int, int] | None:
    """Start and stop of the range asked for, ``None`` for all."""
    condition = call.headers.get("If-Range")
    found = _RANGE.fullmatch(call.headers.get("Range", "").strip())
    if found is None or (condition and condition != f'"{call.route.digest}"'):
        return None
    first, last = found.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    elif last:
        start, stop = max(size - int(last), 0), size
    else:
        return None
    if start >= stop:
        headers = {"Content-Range": f"bytes */{size}"}
        raise Refused(416, "RANGE_INVALID", f"the blob has {size} bytes", headers=headers)
    return start, stop
