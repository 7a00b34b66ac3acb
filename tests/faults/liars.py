"""What registries may say that is not so, and how an operation that is told it has to end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from asyncrane import ContentError, DigestMismatch, NotFound, RegistryError, ServerFault, SizeMismatch
from asyncrane.errors import AsyncraneError, TransportError, UnsupportedManifest
from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.server.call import Call
from asyncrane.testing import (
    Fault,
    acknowledge,
    corrupt,
    cut_request,
    cut_response,
    limit_body,
    set_headers,
    shorten,
    status,
    wrong_digest_header,
    wrong_range,
)
from asyncrane.testing.images import Sample
from asyncrane.testing.lies import claim_mount, claim_received, flood, more_pages, skip_range
from tests.faults.world import NEW, World
from tests.promises.images import described, put

Errors: TypeAlias = tuple[type[AsyncraneError], ...]

READERS = ("cp", "mirror apply", "pull", "append", "validate", "export")
WRITERS = ("cp", "mirror apply", "push", "append")
_LISTERS = ("cp", "mirror apply")

DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
BOMB = gzip.compress(bytes(32 << 20), mtime=0)
"""What 32 MiB of zeros become: no answer is unpacked, so that it may as well be more."""

_LAYER = str(NEW.manifest.layers()[1].digest)
_OCI = {"Content-Type": media.OCI_MANIFEST}
_JSON = {"Content-Type": "application/json"}
_MANIFESTS = ("manifest-get", "manifest-head")
_BEGINS = ("mount", "upload-post")


@dataclass(frozen=True)
class Lie:
    """``errors`` are what the ``operations`` that are told it may end with; those that are ``unharmed`` end well.

    With ``landed`` the tag may have been written when it comes out. ``image`` is what the source has then. So many
    ``sessions`` may stay open: where they are was not said, not yet, or it was a lie.
    """

    tell: Callable[[World], object]
    errors: Errors
    operations: tuple[str, ...] = READERS
    unharmed: tuple[str, ...] = ()
    landed: bool = False
    image: Sample = NEW
    sessions: int = 0


def source(*faults: Callable[[], Fault]) -> Callable[[World], object]:
    """The source has these faults."""
    return lambda world: world.source.faults.add(*(make() for make in faults))


def destination(*faults: Callable[[], Fault]) -> Callable[[World], object]:
    """The destination has these faults."""
    return lambda world: world.destination.faults.add(*(make() for make in faults))


def _held(image: Sample, *errors: type[AsyncraneError], unharmed: tuple[str, ...] = ()) -> Lie:
    return Lie(lambda world: put(world.source, "app", image, "v1"), errors, unharmed=unharmed, image=image)


def _changed(change: Callable[[dict[str, Any]], object], blobs: Mapping[Digest, bytes] | None = None) -> Sample:
    """The image with another manifest; its own digest is right."""
    fields = NEW.manifest.fields()
    change(fields)
    return Sample((Manifest.read(json.dumps(fields).encode()),), {**NEW.blobs, **(blobs or {})})


def _resized(by: int) -> Sample:
    def change(fields: dict[str, Any]) -> None:
        fields["layers"][1]["size"] += by

    return _changed(change)


def _deep_config() -> Sample:
    return _changed(lambda fields: fields.update(config=described(media.OCI_CONFIG, DEEP)), {Digest.of(DEEP): DEEP})


def _first(call: Call) -> bool:
    return "Range" not in call.headers


def _answer(body: bytes, headers: Mapping[str, str] = _JSON, *, code: int = 200, **when: Any) -> Callable[[], Fault]:
    return lambda: status(code, headers=headers, body=body, **when)


def _endless(kind: str | tuple[str, ...], length: int = -1, *, code: int = 200) -> Callable[[], Fault]:
    return lambda: flood(length, code=code, headers=_OCI, kind=kind)


def _pages(kind: str, link: Callable[[Call, int], str]) -> Callable[[], Fault]:
    return lambda: more_pages(link, kind=kind)


def _another(call: Call, count: int) -> str:
    return f"{call.path}?next={count}"


def _range_lies(lie: Callable[[], Fault], **when: Any) -> Callable[[World], object]:
    return source(lambda: cut_response(50_000, path=_LAYER, where=_first, **when), lie)


def _empty_pages(kind: str, key: str) -> Callable[[World], object]:
    return source(
        lambda: more_pages(_another, kind=kind),
        _answer(json.dumps({key: []}).encode(), kind=kind),
    )


LIES: Mapping[str, Lie] = {
    "a blob of other bytes": Lie(source(lambda: corrupt(path=_LAYER)), (DigestMismatch,)),
    "a blob that is shorter": Lie(source(lambda: shorten(7, path=_LAYER)), (SizeMismatch,)),
    "a blob without end": Lie(source(lambda: flood(kind="blob-get", path=_LAYER)), (SizeMismatch,)),
    "a size that is too small": _held(_resized(-10), SizeMismatch),
    "a size that is too large": _held(_resized(10), SizeMismatch),
    "a Range that repeats": Lie(_range_lies(lambda: wrong_range(5, path=_LAYER)), (DigestMismatch,)),
    "a Range that skips": Lie(_range_lies(lambda: skip_range(5, path=_LAYER)), (DigestMismatch,)),
    "a Content-Range of 4,500 digits": Lie(
        _range_lies(lambda: set_headers({"Content-Range": f"bytes {'0' * 4500}-9/9"}, path=_LAYER), times=1),
        (),
        unharmed=READERS,
    ),
    "a wrong digest header": Lie(
        source(lambda: wrong_digest_header(kind=_MANIFESTS)), (NotFound,), unharmed=READERS[2:]
    ),
    "a manifest of 1 GB": Lie(source(_endless("manifest-get", 1 << 30)), (ServerFault,)),
    "a manifest without end": Lie(source(_endless("manifest-get")), (ServerFault,)),
    "a manifest of 5 million values": Lie(
        source(_answer(b'{"manifests":[],"x":[%s0]}' % (b"{}," * 5_000_000), _OCI, kind="manifest-get")),
        (UnsupportedManifest,),
    ),
    "an image and an index at once": Lie(
        source(_answer(b'{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}', _OCI, kind="manifest-get")),
        (UnsupportedManifest,),
    ),
    "a manifest 100,000 deep": Lie(source(_answer(DEEP, _OCI, kind="manifest-get")), (UnsupportedManifest,)),
    "a config 100,000 deep": _held(_deep_config(), ContentError, unharmed=("cp", "mirror apply", "pull")),
    "an error 100,000 deep": Lie(source(_answer(DEEP, code=400, kind="manifest-get")), (RegistryError,)),
    "tags 100,000 deep": Lie(source(_answer(DEEP, kind="tags")), (ServerFault,), _LISTERS),
    "a page of 5 million tags": Lie(
        source(_answer(b'{"tags":[%s"a"]}' % (b'"a",' * 5_000_000), kind="tags")), (ServerFault,), _LISTERS
    ),
    "a token 100,000 deep": Lie(source(_answer(DEEP, kind="token")), (ServerFault,)),
    "a token without end": Lie(source(_endless("token")), (ServerFault,)),
    "an error without end": Lie(source(_endless("manifest-get", code=404)), (NotFound,)),
    "a bomb of gzip as a manifest": Lie(
        source(_answer(BOMB, {**_OCI, "Content-Encoding": "gzip"}, kind="manifest-get")), (UnsupportedManifest,)
    ),
    "a bomb of gzip as a blob": Lie(
        source(_answer(BOMB, {"Content-Encoding": "gzip"}, kind="blob-get", path=_LAYER)), (SizeMismatch,)
    ),
    "a header of 1 MB": Lie(source(lambda: set_headers({"X-Junk": "x" * 1_000_000}, kind=_MANIFESTS)), (ServerFault,)),
    "5,000 headers": Lie(
        source(lambda: set_headers({f"X-{n}": "x" for n in range(5000)}, kind=_MANIFESTS)), (ServerFault,)
    ),
    "a page that leads to itself": Lie(
        source(_pages("tags", lambda call, count: f"{call.path}?{call.raw_query}")),
        (ServerFault,),
        _LISTERS,
        landed=True,
    ),
    "a page that comes again and again": Lie(source(_pages("tags", _another)), (ServerFault,), _LISTERS, landed=True),
    "pages on another host": Lie(
        source(_pages("tags", lambda call, count: f"http://localhost:1{call.path}?next={count}")),
        (ServerFault,),
        _LISTERS,
        landed=True,
    ),
    "empty pages without end": Lie(_empty_pages("tags", "tags"), (ServerFault,), _LISTERS),
    "referrers without end": Lie(
        source(_pages("referrers", _another)), (RegistryError,), ("mirror apply",), sessions=3
    ),
    "a mount that did not happen": Lie(destination(claim_mount), (NotFound,), WRITERS),
    "less received than sent": Lie(
        destination(lambda: limit_body(120_000), lambda: acknowledge(40_000, times=1)), (), WRITERS, unharmed=WRITERS
    ),
    "always less received than sent": Lie(
        destination(lambda: limit_body(200_000), lambda: acknowledge(1000)), (ServerFault,), WRITERS
    ),
    "more received than sent": Lie(
        destination(lambda: limit_body(120_000), lambda: claim_received(50_000)), (), WRITERS, unharmed=WRITERS
    ),
    "more received than there is": Lie(
        destination(lambda: cut_request(20_000), lambda: claim_received(10**9)),
        (TransportError, RegistryError),
        WRITERS,
        sessions=1,
    ),
    "no chunk below 1 GB": Lie(
        destination(
            lambda: set_headers({"OCI-Chunk-Min-Length": "9" * 5000}, kind=_BEGINS), lambda: limit_body(120_000)
        ),
        (RegistryError,),
        WRITERS,
    ),
    "another digest than was pushed": Lie(
        destination(lambda: wrong_digest_header(kind="manifest-put")), (DigestMismatch,), WRITERS, landed=True
    ),
    "an upload's error 100,000 deep": Lie(
        destination(_answer(DEEP, code=400, kind=_BEGINS)), (RegistryError,), WRITERS
    ),
    "an upload's answer without end": Lie(destination(_endless(_BEGINS, code=202)), (ServerFault,), WRITERS),
    "a push's answer without end": Lie(destination(_endless("manifest-put", code=201)), (ServerFault,), WRITERS),
    "an upload that goes on in a file": Lie(
        destination(lambda: set_headers({"Location": "file:///etc/passwd"}, kind=_BEGINS)),
        (ServerFault,),
        WRITERS,
        sessions=5,
    ),
}
