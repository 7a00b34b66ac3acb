"""nginx in front of a registry: what it refuses, rewrites, buffers and keeps, seen in its access log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrane import FixedKeychain, RegistryError, ServerFault, Session, copy
from asyncrane.auth.credentials import Credential
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.images import Sample, random_image
from tests.copies.registries import docker_registry
from tests.images.samples import with_fields
from tests.promises.images import incomplete, put
from tests.servers.conftest import ALL
from tests.servers.nginx import Nginx, nginx
from tests.servers.samples import LARGE, MIB, made

LIMIT = 8 * MIB
TWO = (LARGE, LARGE - 1000)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("backend")) as real:
        yield real.address


def session(proxy: Nginx, **options: object) -> Session:
    return Session(keychain=FixedKeychain(Credential()), ca=proxy.ca, retries=1, **options)  # type: ignore[arg-type]


async def there_and_back(proxy: Nginx, home: FaultyRegistry, sample: Sample, name: str) -> None:
    """Copy it to the proxy and home again, in two sessions."""
    source = put(home, "app", sample, name)
    async with session(proxy) as one:
        await copy(one, source, f"{proxy.address}/proxied/{name}:v1")
    async with session(proxy) as other:
        await copy(other, f"{proxy.address}/proxied/{name}:v1", f"{home.address}/{name}:v1")
    assert home.get_manifest(name, "v1") == sample.manifest
    assert incomplete(home) == []


@pytest.mark.parametrize("buffering", [True, False] if ALL else [False])
async def test_a_body_limit_is_learned_once_and_kept_to(
    backend: str, home: FaultyRegistry, tmp_path: Path, buffering: bool
) -> None:
    """D3: 413 halves the pieces until they fit; later layers, and later halves, are not refused again."""
    sample = random_image(f"limited {buffering}", layers=TWO)
    with nginx(tmp_path, backend, limit="8m", buffering=buffering) as proxy:
        source = put(home, "app", sample, "v1")
        async with session(proxy, jobs=1) as one:
            await copy(one, source, f"{proxy.address}/limited:{buffering}")
        refused = [r for method in ("PUT", "PATCH") for r in proxy.requests(method) if r.status == 413]
        assert [request.method for request in refused] == ["PUT", "PATCH"], "21 MiB, then half of it"
        assert sum(request.length for request in refused) < 2 * MIB, "nobody sends what is refused already"
        pieces = proxy.requests("PATCH", "/blobs/uploads/")
        assert all(request.length < LIMIT for request in pieces if request.status == 202)
        async with session(proxy) as other:
            await copy(other, f"{proxy.address}/limited:{buffering}", f"{home.address}/back:v1")
    assert home.get_manifest("back", "v1") == sample.manifest
    assert incomplete(home) == []


async def test_a_limit_nothing_gets_through_is_one_clear_line(
    backend: str, home: FaultyRegistry, tmp_path: Path
) -> None:
    """Too small for any piece, or for a manifest: what was refused, by whom, and how large it was."""
    large, many = (
        random_image("blob", layers=(500_000,)),
        with_fields(made("artifact"), annotations={"long": "x" * 3000}),
    )
    with nginx(tmp_path, backend, limit="2k") as proxy:
        for sample, refused in ((large, r"PATCH \S+/uploads/\S+"), (many, r"PUT \S+/manifests/v1")):
            async with session(proxy) as one:
                with pytest.raises(RegistryError) as caught:
                    await copy(one, put(home, "app", sample, "v1"), f"{proxy.address}/x:v1")
            size = len(sample.manifest.body) if sample is many else large.manifest.layers()[0].size // 8
            assert re.fullmatch(rf"{refused}: 413 [A-Za-z ]+ \(a body of {size} bytes\)", str(caught.value))


@pytest.mark.parametrize("forwarded", [True, False], ids=["told", "not-told"])
async def test_tls_ends_at_the_proxy_whatever_the_registry_calls_itself(
    backend: str, home: FaultyRegistry, tmp_path: Path, forwarded: bool
) -> None:
    """Not told of TLS the registry gives its Locations as http: they are asked as https."""
    with nginx(tmp_path, backend, tls=True, forwarded=forwarded) as proxy:
        await there_and_back(
            proxy, home, random_image(f"tls {forwarded}", layers=(2 * MIB,)), f"tls{forwarded}".lower()
        )
        assert [request for request in proxy.requests("PUT") if request.status != 201] == []


async def test_a_proxy_that_hides_its_name_is_refused_in_one_line(
    backend: str, home: FaultyRegistry, tmp_path: Path
) -> None:
    """The registry sends uploads to itself, past the proxy and without TLS: nobody goes there with credentials."""
    with nginx(tmp_path, backend, tls=True, forwarded=False, host=backend) as proxy:
        async with session(proxy) as one:
            with pytest.raises(ServerFault, match=f"to http://{backend}/v2/.*, refused: from https to http"):
                await copy(one, put(home, "app", made("image"), "v1"), f"{proxy.address}/x:v1")


async def test_a_cache_of_blobs_is_read_and_the_registry_is_not(
    backend: str, home: FaultyRegistry, tmp_path: Path
) -> None:
    """A blob read a second time comes from the cache, and is as good."""
    sample = random_image("cached", layers=(50_000, 6 * MIB))
    with nginx(tmp_path, backend, cache=True) as proxy:
        await there_and_back(proxy, home, sample, "cached")
        async with session(proxy) as one:
            await copy(one, f"{proxy.address}/proxied/cached:v1", f"{home.address}/again:v1")
        reads = proxy.requests("GET", "/blobs/sha256:")
    assert sorted(request.cache for request in reads) == ["HIT"] * 3 + ["MISS"] * 3
    assert incomplete(home) == []
    assert home.get_manifest("again", "v1") == sample.manifest


async def test_a_proxy_without_its_registry_says_so(home: FaultyRegistry, tmp_path: Path) -> None:
    """nginx answers with a page of HTML, of which nothing is shown."""
    with docker_registry(tmp_path / "registry") as real:
        gone = real.address
    with nginx(tmp_path / "nginx", gone) as proxy:
        async with session(proxy) as one:
            with pytest.raises(ServerFault) as caught:
                await copy(one, put(home, "app", made("image"), "v1"), f"{proxy.address}/x:v1")
    assert "502 Bad Gateway" in str(caught.value)
    assert "<" not in str(caught.value)
