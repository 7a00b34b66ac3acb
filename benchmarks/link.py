"""``python -m benchmarks.link``: how fast one process takes a blob from a line that is never the limit.

nginx serves one large blob from the page cache, plain and over TLS, on loopback; the bytes go to ``/dev/null``.
``asyncrane blob`` checks their digest on the way; ``curl`` does not, and ``curl | sha256sum`` does in a second process.
Every program runs once a round, in turn; the figures are medians.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import anyio
from rich.console import Console
from rich.table import Table

from .measure import Cost, measure
from .processes import started
from .registries import Certificates, free_port
from .runners import RUNNERS, Work, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

GIB = 1 << 30
PIECE = 1 << 20
REPOSITORY = "large"
STARTING = 15.0  # seconds nginx may take until it listens

_CONFIG = """
daemon off;
{user}
pid {home}/nginx.pid;
error_log {home}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {home}/temporary;
  proxy_temp_path {home}/temporary;
  fastcgi_temp_path {home}/temporary;
  uwsgi_temp_path {home}/temporary;
  scgi_temp_path {home}/temporary;
  sendfile on;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location = /v2/ {{ return 200; }}
    location / {{ root {home}/files; }}
  }}
}}
"""


@dataclass(frozen=True)
class Line:
    """Where the blob is, plain and over TLS."""

    plain: str
    tls: str
    digest: str
    size: int

    def address(self, *, tls: bool) -> str:
        """``host:port`` of one of the two."""
        return self.tls if tls else self.plain

    def url(self, *, tls: bool) -> str:
        """The blob."""
        scheme = "https" if tls else "http"
        return f"{scheme}://{self.address(tls=tls)}/v2/{REPOSITORY}/blobs/{self.digest}"


def write_blob(file: Path, size: int) -> str:
    """A file of ``size`` bytes that repeat after one MiB of noise; the answer is its digest."""
    noise, seen = os.urandom(PIECE), hashlib.sha256()
    file.parent.mkdir(parents=True)
    with file.open("wb") as out:
        for _ in range(size // PIECE):
            out.write(noise)
            seen.update(noise)
    digest = f"sha256:{seen.hexdigest()}"
    file.rename(file.with_name(digest))
    return digest


@asynccontextmanager
async def serving(home: Path, size: int, certificates: Certificates) -> AsyncIterator[Line]:
    """nginx, and the blob behind it.

    :raises SystemExit: when nginx is missing, or does not come up
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise SystemExit("nginx is not on PATH: install Debian's nginx-light")
    digest = await anyio.to_thread.run_sync(write_blob, home / "files" / "v2" / REPOSITORY / "blobs" / "new", size)
    plain, tls = free_port(), free_port()
    user = "" if os.geteuid() else "user root;"  # whoever starts it owns the files
    names = {"certificate": certificates.certificate, "key": certificates.key, "user": user}
    config = home / "nginx.conf"
    config.write_text(_CONFIG.format(home=home, plain=plain, tls=tls, **names))
    async with started([program, "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)]) as process:
        with anyio.fail_after(STARTING):
            while not await _listens(plain):
                if process.returncode is not None:
                    raise SystemExit(f"nginx did not start: {(home / 'error.log').read_text()[-300:]}")
        yield Line(f"127.0.0.1:{plain}", f"127.0.0.1:{tls}", digest, size)


async def _listens(port: int) -> bool:
    try:
        stream = await anyio.connect_tcp("127.0.0.1", port)
    except OSError:
        await anyio.sleep(0.02)
        return False
    await stream.aclose()
    return True


def works(asyncrane: str, line: Line, *, tls: bool) -> dict[str, Work]:
    """What is run, by name; all that it prints goes to ``/dev/null``."""
    url = line.url(tls=tls)
    blob = f"{line.address(tls=tls)}/{REPOSITORY}@{line.digest}"
    scripts = {
        "asyncrane blob": f"{asyncrane} blob {blob}",
        "curl": f"curl -sSf {url}",
        "curl | sha256sum": f"curl -sSf {url} | sha256sum",
    }
    return {name: Work((("sh", "-c", f"{script} > /dev/null"),)) for name, script in scripts.items()}


async def _bench(options: argparse.Namespace, home: Path, asyncrane: str, console: Console) -> Table:
    certificates = Certificates.made_in(home)
    env = environment(home, authority=certificates.authority) | {"CURL_CA_BUNDLE": str(certificates.authority)}
    costs: dict[tuple[str, bool], list[Cost]] = {}
    async with serving(home, int(options.size * GIB), certificates) as line:
        for number in range(options.rounds):
            for tls in (False, True):
                for name, work in works(asyncrane, line, tls=tls).items():
                    cost = await measure(work, log=home / "output", env=env, timeout=120)
                    costs.setdefault((name, tls), []).append(cost)
                    said = f"{number + 1}/{options.rounds} {'TLS' if tls else 'plain'} {name}: {cost.wall:.2f} s"
                    console.print(said, highlight=False)
    return _table(costs, line.size / GIB)


def _table(costs: dict[tuple[str, bool], list[Cost]], gib: float) -> Table:
    table = Table("line", "program", "GiB/s", "client CPU s a GiB", "of curl", "peak MiB")
    curl = {tls: median(cost.wall for cost in runs) for (name, tls), runs in costs.items() if name == "curl"}
    for (name, tls), runs in costs.items():
        wall = median(cost.wall for cost in runs)
        cpu = median(cost.user + cost.system for cost in runs) / gib
        peak = max(cost.rss for cost in runs)
        speed, share = f"{gib / wall:.2f}", f"{curl[tls] / wall:.2f}x"
        table.add_row("TLS" if tls else "plain", name, speed, f"{cpu:.2f}", share, f"{peak:.0f}")
    return table


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.link", description=__doc__)
    parser.add_argument("--size", type=float, default=2.0, help="of the blob, GiB")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(words)
    asyncrane = RUNNERS[0].path()
    if asyncrane is None:
        raise SystemExit("asyncrane is not on PATH")
    with tempfile.TemporaryDirectory(prefix="asyncrane-bench-") as directory:
        Console().print(anyio.run(_bench, options, Path(directory), asyncrane, Console(stderr=True)))


if __name__ == "__main__":
    main()
