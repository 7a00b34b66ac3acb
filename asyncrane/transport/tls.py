"""Whom to trust, and who we are, over TLS: one ``ssl`` context per host, made when first needed.

``certs.d/<host[:port]>/`` holds ``*.crt`` (authorities), and ``*.cert`` with ``*.key`` (client certificates), as with
docker and podman (containers-certs.d(5)). ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` replace the system's authorities.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from asyncrane.errors import InvalidInput

Context: TypeAlias = ssl.SSLContext | bool
"""What aiohttp takes: a context, or ``False`` for its own that checks nothing."""


class Trust:
    """TLS settings of a pool. ``hosts`` are other settings for single hosts, by ``host[:port]``.

    :raises InvalidInput: when a file cannot be used, or of certificate and key only one is given
    """

    def __init__(
        self,
        *,
        insecure: bool = False,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        certs_dir: Path | None = None,
        hosts: Mapping[str, Trust] | None = None,
    ) -> None:
        if key is not None and cert is None:
            raise InvalidInput(f"the client key {key} has no certificate")
        if cert is not None and key is None and not _holds_key(cert):
            raise InvalidInput(f"the client certificate {cert} has no key")
        self._insecure = insecure
        self._ca = ca
        self._cert = cert
        self._key = key
        self._roots = (certs_dir,) if certs_dir is not None else tuple(_usual_places())
        self._hosts = dict(hosts or {})
        self._contexts: dict[str, Context] = {}
        self._common: Context | None = None
        if ca is not None or cert is not None:
            self._common = self._context(None)

    def context(self, host: str, port: int) -> Context:
        """The context for connections to a host."""
        name = f"{host}:{port}"
        context = self._contexts.get(name)
        if context is None:
            own = self._hosts.get(name) or (self._hosts.get(host) if port == 443 else None)
            made = own.context(host, port) if own is not None else self._make(name, host if port == 443 else None)
            context = self._contexts[name] = made
        return context

    def _make(self, *names: str | None) -> Context:
        for root in self._roots:
            for name in names:
                if name and (folder := root / name).is_dir():
                    return self._context(folder)
        if self._common is None:
            places = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
            self._common = False if self._insecure else _usual(*places)
        return self._common

    def _context(self, folder: Path | None) -> ssl.SSLContext:
        context = _checking()
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._ca is not None:
            _add_authorities(context, self._ca)
        pairs = [(self._cert, self._key)] if self._cert is not None else []
        if folder is not None:
            for authority in sorted(folder.glob("*.crt")):
                _add_authorities(context, authority)
            pairs += _pairs(folder)
        for cert, key in pairs:
            try:
                context.load_cert_chain(cert, key, password=_no_password)
            except (OSError, ssl.SSLError) as exc:
                raise InvalidInput(f"the client certificate {cert} cannot be used: {_why(exc)}") from exc
        return context

    def __repr__(self) -> str:
        return f"Trust(insecure={self._insecure}, hosts={len(self._contexts)})"


def _checking() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.cache
def _usual(file: str | None, folder: str | None) -> ssl.SSLContext:
    """The system's authorities, which OpenSSL looks for there; read once a process, because that takes 30 ms."""
    return _checking()


def _usual_places() -> Iterator[Path]:
    config = os.environ.get("XDG_CONFIG_HOME")
    if config:
        yield Path(config) / "containers" / "certs.d"
    home = os.environ.get("HOME")
    if home:
        yield Path(home) / ".config" / "containers" / "certs.d"
    yield Path("/etc/containers/certs.d")
    yield Path("/etc/docker/certs.d")


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    certs = {path.stem: path for path in folder.glob("*.cert")}
    keys = {path.stem: path for path in folder.glob("*.key")}
    for stem in sorted(certs.keys() ^ keys.keys()):
        if stem in keys:
            raise InvalidInput(f"the client key {keys[stem]} has no certificate ({stem}.cert)")
        raise InvalidInput(f"the client certificate {certs[stem]} has no key ({stem}.key)")
    return [(certs[stem], keys[stem]) for stem in sorted(certs)]


def _add_authorities(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ssl.SSLError) as exc:
        raise InvalidInput(f"the certificate authority {file} cannot be used: {_why(exc)}") from exc


def _holds_key(cert: Path) -> bool:
    try:
        return b"PRIVATE KEY-----" in cert.read_bytes()
    except OSError as exc:
        raise InvalidInput(f"the client certificate {cert} cannot be used: {_why(exc)}") from exc


def _no_password() -> str:
    # without this OpenSSL would ask for one on the terminal
    return ""


def _why(exc: OSError) -> str:
    return (exc.strerror or str(exc)) if not isinstance(exc, ssl.SSLError) else (exc.reason or "not PEM").lower()
