"""The data sets are what the issue of the benchmarks says, and their layers are layers."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from pathlib import Path

import pytest

from benchmarks.content import Packed, packed
from benchmarks.runners import RUNNERS, Task, environment
from benchmarks.scenarios import SCENARIOS, Layer, big, chosen, fleet, tiny


@pytest.mark.parametrize("size", [10_000, 3_000_000])
def test_a_layer_is_a_tarball_of_the_size_asked_for_that_no_compressor_makes_smaller(size: int) -> None:
    """Digest, diff id and size are those of the bytes; the same seed is the same blob."""
    data, made = packed(Layer(7, size))
    inner = gzip.decompress(data)
    assert abs(made.size - size) < 1024
    assert made.size == len(data)
    assert made.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert made.diff_id == f"sha256:{hashlib.sha256(inner).hexdigest()}"
    assert len(zlib.compress(data, 9)) > 0.8 * len(data)
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        assert len(archive.getmembers()) == 1
    assert b"".join(Packed(Layer(7, size))) == data


def test_fleet_shares_three_bases_among_ten_repositories() -> None:
    """10 repositories x 20 tags; four 20 MB layers of one base and three own ones of 0.5 MB in each image."""
    images = fleet().images
    layers = {layer for image in images for layer in image.layers}
    assert len(images) == 200
    assert len({image.repository for image in images}) == 10
    assert sorted({layer.size for layer in layers}) == [500_000, 20_000_000]
    assert sum(layer.size == 20_000_000 for layer in layers) == 12
    assert sum(layer.size == 500_000 for layer in layers) == 600
    assert {len(image.layers) for image in images} == {7}


def test_big_and_tiny_are_bytes_and_requests() -> None:
    """4 x 256 MiB in one image; 5 x 100 images of one 10 KB layer, none shared."""
    assert [layer.size for layer in big().images[0].layers] == [256 << 20] * 4
    assert len({image.layers for image in tiny().images}) == 500


def test_scenarios_of_a_data_set_follow_each_other() -> None:
    """So that each data set is built once, whatever is chosen."""
    for names in ([], ["tiny-tls", "big", "tiny", "fleet", "resync"]):
        order = [scenario.dataset for scenario in chosen(names)]
        assert len(list(dict.fromkeys(order))) == sum(
            one != before for one, before in zip(order, [None, *order], strict=False)
        )
    assert {"big", "big-tls", "fleet-50ms", "tiny-200ms", "resync"} <= {scenario.name for scenario in SCENARIOS}


def test_everybody_is_asked_for_the_same_pairs(tmp_path: Path) -> None:
    """asyncrane gets all repositories at once, the others one command each; only one of them side by side."""
    pairs = (("a:1/x/one", "b:1/x/one"), ("a:1/x/two", "b:1/x/two"))
    works = {runner.name: runner.plan("prog", Task(pairs, tmp_path)) for runner in RUNNERS}
    assert len(works["asyncrane"].commands) == 1
    assert (tmp_path / "pairs").read_text() == "a:1/x/one b:1/x/one\na:1/x/two b:1/x/two\n"
    assert works["crane"].commands[0] == ("prog", "cp", "-a", "-j", "8", *pairs[0])
    assert works["crane"].commands == works["crane-parallel"].commands
    assert [name for name, work in works.items() if work.parallel] == ["crane-parallel"]
    assert works["skopeo"].commands[1][-2:] == ("a:1/x/two", "b:1/x")


def test_runners_inherit_no_credentials_and_no_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the benchmarks has settings of their own; runners see none of them."""
    for name in ("HTTPS_PROXY", "no_proxy", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "ASYNCRANE_AUTH_X"):
        monkeypatch.setenv(name, "x")
    env = environment(tmp_path, authority=tmp_path / "ca.pem")
    assert "x" not in env.values()
    assert env["SSL_CERT_FILE"] == str(tmp_path / "ca.pem")
    assert env["DOCKER_CONFIG"] == str(tmp_path)
