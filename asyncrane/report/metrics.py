"""The counts of a run for Prometheus: read when they are asked for, so that nobody keeps a second book."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import anyio.from_thread
import anyio.lowlevel

from asyncrane.engine.outcome import Statistics
from asyncrane.errors import InvalidInput

if TYPE_CHECKING:
    from prometheus_client.core import Metric

HOST = "127.0.0.1"

_POLL = 0.05
"""Seconds until the server notices that it is to end."""


@contextmanager
def serve_metrics(statistics: Callable[[], Statistics], *, port: int, host: str = HOST) -> Iterator[str]:
    """Serve what ``statistics`` says at ``/metrics`` until the block is left; gives the address.

    Inside an event loop ``statistics`` is called by the loop, between two of its steps: counts are never read while
    they change.

    :param port: 0 for any that is free
    :raises InvalidInput: when prometheus_client is not installed (``asyncrane[metrics]``), or the port cannot be had
    """
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidInput(
            "metrics need prometheus_client, which is not installed: pip install 'asyncrane[metrics]'"
        ) from None
    registry = CollectorRegistry()
    registry.register(_Collector(_by_the_loop(statistics)))
    ProcessCollector(registry=registry)
    try:
        server = make_server(host, port, make_wsgi_app(registry), server_class=_Server, handler_class=_Handler)
    except OSError as exc:
        raise InvalidInput(f"cannot serve metrics on {host}:{port}: {exc.strerror or exc}") from exc
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(_POLL,), name="asyncrane-metrics", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()


def _by_the_loop(statistics: Callable[[], Statistics]) -> Callable[[], Statistics]:
    """``statistics``, to be called by another thread than the event loop's, if there is a loop."""
    try:
        token = anyio.lowlevel.current_token()
    except RuntimeError:  # anyio.NoEventLoopError is one
        return statistics
    return lambda: anyio.from_thread.run_sync(statistics, token=token)


class _Server(ThreadingMixIn, WSGIServer):
    """One thread for each request; one that waits for the loop holds up neither the others nor the end."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Says nothing on stderr."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing."""


class _Collector:
    """Makes metrics of counts (https://prometheus.io/docs/practices/naming/)."""

    def __init__(self, statistics: Callable[[], Statistics]) -> None:
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        now = self._statistics()
        yield from _of_images(now)
        yield from _of_bytes(now)
        yield from _of_registries(now)


def _of_images(now: Statistics) -> Iterator[Metric]:
    images = {
        "done": now.images_done - now.images_failed,
        "failed": now.images_failed,
        "waiting": max(0, now.images_total - now.images_done),
    }
    blobs = {
        "copied": now.blobs_copied,
        "mounted": now.blobs_mounted,
        "existing": now.blobs_existing,
        "waiting": max(0, now.blobs_total - now.blobs_done),
    }
    manifests = {"image": now.manifests_written - now.referrers_written, "referrer": now.referrers_written}
    yield _gauge("images", "Images by how far they are.", "outcome", images)
    yield _gauge("blobs", "Blobs by what became of them, once for each repository.", "outcome", blobs)
    yield _counter("manifests_written", "Manifests written.", ("kind",), (((k,), n) for k, n in manifests.items()))


def _of_bytes(now: Statistics) -> Iterator[Metric]:
    moved = {
        "read": now.bytes_read,
        "written": now.bytes_written,
        "mounted": now.bytes_mounted,
        "existing": now.bytes_existing,
    }
    help_ = "Bytes of blobs: moved, and spared at destinations."
    yield _counter("bytes", help_, ("direction",), (((direction,), n) for direction, n in moved.items()))
    yield _gauge("expected_bytes", "Bytes of blobs to read in all, as far as known.", "", {"": now.bytes_total})
    yield _gauge("transfers", "Blobs on their way.", "", {"": len(now.transfers)})


def _of_registries(now: Statistics) -> Iterator[Metric]:
    views = now.registries
    asked = {host: view.requests for host, view in views.items()} or now.requests
    requests = (((host, *_method(kind)), n) for host, kinds in asked.items() for kind, n in kinds.items())
    yield _counter("requests", "Requests, repeated ones too.", ("registry", "method", "kind"), requests)
    wire = (
        ((host, direction), n)
        for host, view in views.items()
        for direction, n in (("received", view.received), ("sent", view.sent))
    )
    yield _counter("registry_bytes", "Body bytes over the wire.", ("registry", "direction"), wire)
    retries = (((host,), view.retries) for host, view in views.items())
    yield _counter("registry_retries", "Attempts after the first.", ("registry",), retries)
    limits = {host: view.limit for host, view in views.items()} or now.limits
    parked = {host: view.parked for host, view in views.items()} or now.parked
    busy = {host: view.busy for host, view in views.items()}
    yield _gauge("registry_limit", "Commands at once that are allowed now.", "registry", limits)
    yield _gauge("registry_busy", "Commands under way.", "registry", busy)
    yield _gauge("registry_parked_seconds", "Seconds until it may be asked again.", "registry", parked)


def _method(kind: str) -> tuple[str, str]:
    """``"GET blobs"`` as the method and what it was about."""
    method, _, about = kind.partition(" ")
    return method, about


def _counter(name: str, help_: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - an extra

    family = CounterMetricFamily(f"asyncrane_{name}", help_, labels=labels)
    for of, number in values:
        family.add_metric(of, number)
    return family


def _gauge(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    """Without ``label`` there is one value."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

    family = GaugeMetricFamily(f"asyncrane_{name}", help_, labels=(label,) if label else ())
    for of, number in values.items():
        family.add_metric((of,) if label else (), number)
    return family
