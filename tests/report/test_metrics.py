"""Metrics are what Prometheus's own parser reads, as things stand when it asks."""

from __future__ import annotations

import socket
import sys
import threading
import urllib.error
import urllib.request
from functools import partial

import anyio
import anyio.to_thread
import pytest

from asyncrane.engine.outcome import RegistryView, Statistics, TransferView
from asyncrane.errors import InvalidInput
from asyncrane.report.metrics import serve_metrics

NOW = Statistics(
    images_total=10,
    images_done=4,
    images_failed=1,
    blobs_total=20,
    blobs_done=9,
    blobs_copied=5,
    blobs_mounted=3,
    blobs_existing=1,
    manifests_written=7,
    referrers_written=2,
    bytes_total=9000,
    bytes_read=5000,
    bytes_written=8000,
    bytes_mounted=300,
    bytes_existing=40,
    registries={
        "a:5000": RegistryView({"GET blobs": 6, "HEAD manifests": 3}, received=5100, retries=2, busy=3, limit=8),
        'evil"\n': RegistryView({"PUT manifests": 1}, sent=8000, parked=2.5),
    },
    transfers=(TransferView("sha256:0", 10, 1, "a/x", ("b/y",)),),
)


def read(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - http and loopback, from the server
        assert answer.status == 200
        content: bytes = answer.read()
        return content.decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    parser = pytest.importorskip("prometheus_client.parser")
    families = parser.text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_the_counts_are_there_under_the_names_that_prometheus_expects() -> None:
    with serve_metrics(lambda: NOW, port=0) as address:
        found = samples(read(address))
    assert found["asyncrane_bytes_total", (("direction", "read"),)] == 5000
    assert found["asyncrane_bytes_total", (("direction", "existing"),)] == 40
    assert found["asyncrane_expected_bytes", ()] == 9000
    assert found["asyncrane_transfers", ()] == 1
    for outcome, number in {"done": 3, "failed": 1, "waiting": 6}.items():
        assert found["asyncrane_images", (("outcome", outcome),)] == number
    assert found["asyncrane_blobs", (("outcome", "waiting"),)] == 11
    requests = (("kind", "blobs"), ("method", "GET"), ("registry", "a:5000"))
    assert found["asyncrane_requests_total", requests] == 6
    assert found["asyncrane_registry_limit", (("registry", "a:5000"),)] == 8
    assert found["asyncrane_registry_parked_seconds", (("registry", 'evil"\n'),)] == 2.5
    assert found["asyncrane_registry_bytes_total", (("direction", "sent"), ("registry", 'evil"\n'))] == 8000
    assert any(name == "process_resident_memory_bytes" for name, _ in found)


def test_each_scrape_reads_the_counts_anew() -> None:
    read_bytes = iter((1, 2))
    with serve_metrics(lambda: Statistics(bytes_read=next(read_bytes)), port=0) as address:
        seen = [samples(read(address))["asyncrane_bytes_total", (("direction", "read"),)] for _ in range(2)]
    assert seen == [1, 2]


async def test_counts_are_read_by_the_event_loop_itself() -> None:
    threads = []

    def statistics() -> Statistics:
        threads.append(threading.get_ident())
        return NOW

    with serve_metrics(statistics, port=0) as address:
        text = await anyio.to_thread.run_sync(partial(read, address))
    assert "asyncrane_images" in text
    assert threads == [threading.get_ident()]


def test_only_this_machine_is_served_and_only_inside_the_block() -> None:
    with serve_metrics(lambda: NOW, port=0) as address:
        assert address.startswith("http://127.0.0.1:")
        assert address.endswith("/metrics")
    assert "asyncrane-metrics" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(urllib.error.URLError):
        read(address)


def test_the_server_ends_with_the_block_when_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), serve_metrics(lambda: NOW, port=0):
        raise ZeroDivisionError
    assert "asyncrane-metrics" not in {thread.name for thread in threading.enumerate()}


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        expected = f"^cannot serve metrics on 127.0.0.1:{port}: Address already in use$"
        with pytest.raises(InvalidInput, match=expected), serve_metrics(lambda: NOW, port=port):
            pass


def test_without_prometheus_client_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(InvalidInput, match=r"asyncrane\[metrics\]"), serve_metrics(lambda: NOW, port=0):
        pass
