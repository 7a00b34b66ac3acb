"""nginx in front of a registry, as people put it there: it ends TLS, limits bodies, buffers, caches blobs."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.registries import Certificates
from tests.peers import require

# what nginx keeps is below its directory, its worker another process of the same user
_CONFIGURATION = """\
{user}
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 512; }}
http {{
  log_format seen '$request_method $request_uri $status $request_length $upstream_cache_status';
  access_log {directory}/access.log seen;
  client_body_temp_path {directory}/bodies;
  proxy_temp_path {directory}/answers;
  fastcgi_temp_path {directory}/none;
  uwsgi_temp_path {directory}/none;
  scgi_temp_path {directory}/none;
  proxy_cache_path {directory}/cache keys_zone=blobs:1m max_size=200m inactive=1h;
  upstream registry {{ server {backend}; keepalive 16; }}
  server {{
    listen {address}{listen};
    {tls}
    client_max_body_size {limit};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host {host};
    {forwarded}
    {more}
    location /v2/ {{ proxy_pass http://registry; }}
    location ~ ^/v2/.+/blobs/sha256:[0-9a-f]+$ {{
      {cache}
      proxy_pass http://registry;
    }}
  }}
}}
"""
_CACHE = "proxy_cache blobs; proxy_cache_methods GET; proxy_cache_valid 200 1h; proxy_cache_lock on;"


@dataclass(frozen=True)
class Proxied:
    """One request that nginx answered: ``length`` is what came in, headers and all, ``cache`` HIT, MISS or ``-``."""

    method: str
    target: str
    status: int
    length: int
    cache: str


@dataclass(frozen=True)
class Nginx:
    """A proxy that listens."""

    address: str
    ca: Path | None
    directory: Path

    def requests(self, method: str, part: str = "") -> list[Proxied]:
        """What it was asked with ``method`` and ``part`` of a target, in the order it was answered."""
        lines = (line.split() for line in (self.directory / "access.log").read_text().splitlines())
        seen = [Proxied(how, what, int(status), int(length), cache) for how, what, status, length, cache in lines]
        return [one for one in seen if one.method == method and re.search(part, one.target)]


@contextmanager
def nginx(
    directory: Path,
    backend: str,
    *,
    tls: bool = False,
    forwarded: bool = True,
    host: str = "$http_host",
    limit: str = "0",
    cache: bool = False,
    buffering: bool = True,
) -> Iterator[Nginx]:
    """Start one in front of ``backend``, and end it.

    :param tls: ends TLS, and says so to the registry where ``forwarded``
    :param host: what the registry is told that it is called
    :param limit: ``client_max_body_size``
    :param buffering: requests are read whole before the registry sees them
    """
    program = require("nginx", package="nginx-light")
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificates.made_in(directory) if tls else None
    # it inherits the socket, as from an older nginx: nobody else takes the port meanwhile, and connections wait
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                user="user root;" if os.geteuid() == 0 else "",
                directory=directory,
                backend=backend,
                address=address,
                listen=" ssl" if tls else "",
                tls=f"ssl_certificate {made.certificate}; ssl_certificate_key {made.key};" if made else "",
                limit=limit,
                host=host,
                forwarded="proxy_set_header X-Forwarded-Proto $scheme;" if forwarded else "",
                more="" if buffering else "proxy_request_buffering off; proxy_buffering off;",
                cache=_CACHE if cache else "",
            )
        )
        inherited = listening.fileno()
        with subprocess.Popen(
            [program, "-p", directory, "-e", directory / "error.log", "-c", configuration],
            env={**os.environ, "NGINX": f"{inherited};"},
            pass_fds=[inherited],
            stderr=subprocess.PIPE,
        ) as run:
            try:
                yield Nginx(address, made.authority if made else None, directory)
            finally:
                run.terminate()
                _, said = run.communicate(timeout=10)
                assert run.returncode == 0, said.decode()
