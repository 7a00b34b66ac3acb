"""Small blobs are read whole, and once more when they were garbled on their way."""

from __future__ import annotations

import pytest

from asyncrane import Session
from asyncrane.abc import Place, Site
from asyncrane.archive.whole import read_blob
from asyncrane.errors import DigestMismatch
from asyncrane.oci.descriptor import Descriptor
from asyncrane.testing import FaultyRegistry, corrupt

CONTENT = b'{"os": "linux"}'


@pytest.mark.parametrize(("times", "readings"), [(0, 1), (1, 2), (2, 2)])
async def test_what_is_garbled_is_read_once_more(times: int, readings: int) -> None:
    async with FaultyRegistry() as registry, Session() as session:
        digest = registry.put_blob("app", CONTENT)
        registry.faults.add(corrupt(3, times=times))
        source = session.source(Place(Site(registry.address, mounts=True), "app"))
        blob = Descriptor("application/json", digest, len(CONTENT))
        if times < 2:
            assert await read_blob(source, blob) == CONTENT
        else:
            with pytest.raises(DigestMismatch):
                await read_blob(source, blob)
        assert len(registry.requests(kind="blob-get")) == readings
