"""The two registries: Debian's ``docker-registry`` on a loopback port, started over a directory of our own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import trustme

from .processes import cpu_seconds, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from anyio.abc import Process

COMMAND = "docker-registry"
STARTING = 15.0  # seconds a registry may take until it listens


class NoRegistry(Exception):
    """There is no registry to measure against."""


@dataclass(frozen=True)
class Registry:
    """A registry that answers; ``log`` is its access log, ``None`` when it is not ours."""

    address: str
    tls: bool = False
    log: Path | None = None
    pid: int = 0

    @property
    def url(self) -> str:
        """The root of its API."""
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def logged(self) -> int:
        """How far its access log reaches, in bytes: where the next run's requests begin."""
        return self.log.stat().st_size if self.log is not None else 0

    def cpu_seconds(self) -> float:
        """The CPU time it has used so far."""
        return cpu_seconds(self.pid) if self.pid else 0.0


@dataclass(frozen=True)
class Certificates:
    """A certificate for the loopback, and the authority that clients must trust for it."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def made_in(cls, directory: Path) -> Certificates:
        """Make both, new."""
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        made = cls(directory / "ca.pem", directory / "registry.pem", directory / "registry.key")
        authority.cert_pem.write_to_path(str(made.authority))
        made.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(made.key))
        return made

    def trust(self) -> ssl.SSLContext:
        """What the harness itself trusts."""
        return ssl.create_default_context(cafile=str(self.authority))


def version() -> str:
    """What the registry's program calls itself."""
    said = subprocess.run([installed(), "--version"], capture_output=True, text=True, timeout=60, check=False)
    return said.stdout.strip().rpartition(" ")[2]


def installed() -> str:
    """The registry's program.

    :raises NoRegistry: it is not on PATH.
    """
    found = shutil.which(COMMAND)
    if found is None:
        raise NoRegistry(f"{COMMAND} is not on PATH: install Debian's {COMMAND}, or name two running registries")
    return found


def given() -> tuple[Registry, Registry] | None:
    """The registries named by ``ASYNCRANE_TEST_REGISTRY_A`` and ``_B`` (``host:port`` or a URL), if both are."""
    names = [os.environ.get(f"ASYNCRANE_TEST_REGISTRY_{side}", "") for side in "AB"]
    if not all(names):
        return None
    first, second = (
        Registry(name.partition("://")[2].rstrip("/") or name, tls=name.startswith("https://")) for name in names
    )
    return first, second


@asynccontextmanager
async def serving(storage: Path, *, home: Path, tls: Certificates | None = None) -> AsyncIterator[Registry]:
    """A registry over ``storage``; its configuration and logs are made in ``home``.

    :raises NoRegistry: the program is missing, or does not come up.
    """
    address = f"127.0.0.1:{free_port()}"
    settings, log, complaints = home / "config.yml", home / "access.log", home / "error.log"
    _prepare(settings, _settings(storage, address, tls))
    with log.open("wb") as out, complaints.open("wb") as err:
        async with started([installed(), "serve", str(settings)], stdout=out, stderr=err) as process:
            if not await _comes_up(process, address):
                raise NoRegistry(f"{COMMAND} did not start: {complaints.read_text(errors='replace')[-500:]}")
            yield Registry(address, tls=tls is not None, log=log, pid=process.pid)


async def _comes_up(process: Process, address: str) -> bool:
    with anyio.move_on_after(STARTING):
        while process.returncode is None:
            if await _listens(address):
                return True
            await anyio.sleep(0.02)
    return False


def _prepare(file: Path, settings: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings))  # JSON is YAML


def _settings(storage: Path, address: str, tls: Certificates | None) -> dict[str, Any]:
    http: dict[str, Any] = {"addr": address, "secret": "benchmark"}
    if tls is not None:
        http["tls"] = {"certificate": str(tls.certificate), "key": str(tls.key)}
    return {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": False}},
        "storage": {
            "cache": {"blobdescriptor": "inmemory"},
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": http,
        "health": {"storagedriver": {"enabled": False}},
    }


async def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        stream = await anyio.connect_tcp(host, int(port))
    except OSError:
        return False
    await stream.aclose()
    return True


def free_port() -> int:
    """A loopback port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
