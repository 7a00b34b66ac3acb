"""A registry of one's own, for as long as one needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from asyncrane.errors import InvalidInput
from asyncrane.server import (
    BasicAuth,
    DiskStorage,
    HtpasswdUsers,
    MemoryStorage,
    access_log,
    make_app,
    parse_address,
    serving,
)


@asynccontextmanager
async def serve(
    *,
    address: str = "",
    disk: Path | None = None,
    htpasswd: Path | None = None,
    log: Callable[[str], None] | None = None,
) -> AsyncIterator[str]:
    """Serve a registry until the block is left; gives its ``host:port``.

    :param address: ``[HOST][:PORT]`` to listen on; the loopback and any free port by default
    :param disk: the directory to keep everything in, made if need be; memory by default
    :param htpasswd: a file of users, as Apache's ``htpasswd`` makes it; everybody by default
    :param log: called with a line for every request
    :raises InvalidInput: when the address cannot be listened on, or the directory or file not be used
    """
    host, port = parse_address(address)
    try:
        storage = DiskStorage(disk) if disk is not None else MemoryStorage()
        auth = BasicAuth(HtpasswdUsers.read(htpasswd)) if htpasswd is not None else None
    except OSError as exc:
        raise InvalidInput(f"cannot serve from {disk or htpasswd}: {exc.strerror or exc}") from exc
    app = make_app(storage, auth=auth, around=access_log(log) if log is not None else None)
    ready = False
    try:
        async with serving(app, host=host, port=port) as bound:
            ready = True
            yield bound
    except OSError as exc:
        if ready:
            raise
        raise InvalidInput(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
