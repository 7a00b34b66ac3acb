"""Certificates: authorities, client certificates, per host, by flag, by environment (L1, L2)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trustme

from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import ConnectFailed, InvalidInput, TransportError
from asyncrane.transport import Pool
from asyncrane.transport.tls import Trust
from tests.transport.conftest import OpenPool, Serve
from tests.transport.server import Server, fine


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "authority.pem"
    ca.cert_pem.write_to_path(file)
    return file


async def _registry(serve: Serve, ca: trustme.CA, *, client: bool = False) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(context)
    return await serve(fine, context=context)


def _client(ca: trustme.CA, folder: Path, name: str = "client") -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    issued = ca.issue_cert("client.example")
    cert, key = folder / f"{name}.cert", folder / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    return cert, key


async def _ask(pool: Pool, server: Server) -> bytes:
    return (await pool.origin(server.address, FixedKeychain()).request("GET", "/v2/x")).body


async def test_an_unknown_authority_is_one_line_and_http_is_not_the_way_out(
    serve: Serve, open_pool: OpenPool, ca: trustme.CA
) -> None:
    server = await _registry(serve, ca)
    with pytest.raises(ConnectFailed, match=rf"^GET {server.url}/v2/: no connection: the certificate is not trusted: "):
        await _ask(await open_pool(retry_base=60.0), server)
    assert not server.asked


async def test_an_authority_by_flag(serve: Serve, open_pool: OpenPool, ca: trustme.CA, ca_file: Path) -> None:
    server = await _registry(serve, ca)
    assert await _ask(await open_pool(ca=ca_file), server) == b"fine"


async def test_an_authority_by_environment(
    serve: Serve, open_pool: OpenPool, ca: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await _registry(serve, ca)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert await _ask(await open_pool(), server) == b"fine"


async def test_insecure_checks_nothing(serve: Serve, open_pool: OpenPool, ca: trustme.CA) -> None:
    server = await _registry(serve, ca)
    assert await _ask(await open_pool(insecure=True), server) == b"fine"


async def test_certs_d_counts_for_its_host_alone_l2(
    serve: Serve, open_pool: OpenPool, ca: trustme.CA, tmp_path: Path
) -> None:
    server, other = await _registry(serve, ca), await _registry(serve, ca)
    folder = tmp_path / "certs.d" / server.address
    folder.mkdir(parents=True)
    ca.cert_pem.write_to_path(folder / "ca.crt")
    pool = await open_pool(certs_dir=tmp_path / "certs.d")
    assert await _ask(pool, server) == b"fine"
    with pytest.raises(ConnectFailed):
        await _ask(pool, other)


async def test_client_certificates_by_host_and_by_flag_l2(
    serve: Serve, open_pool: OpenPool, ca: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    """L2: mutual TLS."""
    server = await _registry(serve, ca, client=True)
    cert, key = _client(ca, tmp_path / "certs.d" / server.address)
    ca.cert_pem.write_to_path(tmp_path / "certs.d" / server.address / "ca.crt")
    assert await _ask(await open_pool(certs_dir=tmp_path / "certs.d"), server) == b"fine"
    assert await _ask(await open_pool(ca=ca_file, cert=cert, key=key), server) == b"fine"
    with pytest.raises(TransportError):
        await _ask(await open_pool(ca=ca_file, retries=0), server)


async def test_a_server_that_misses_our_certificate_is_understood_at_once_l2(
    open_pool: OpenPool, ca: trustme.CA, ca_file: Path
) -> None:
    """L2: from TLS 1.3 on it says so only after the handshake, when it looks like a connection that broke."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def refuse() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with tls, contextlib.suppress(OSError):
                with contextlib.suppress(ssl.SSLError):
                    tls.do_handshake()
                socket.socket.shutdown(tls, socket.SHUT_WR)
                while socket.socket.recv(tls, 4096):  # closed with something unread, the alert would get lost
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=refuse)
        server.start()
        pool = await open_pool(ca=ca_file, retry_base=600.0)
        try:
            with anyio.fail_after(60), pytest.raises(ConnectFailed, match="the server wants a client certificate"):
                await pool.origin(f"127.0.0.1:{listening.getsockname()[1]}", FixedKeychain()).request("GET", "/v2/x")
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            await anyio.to_thread.run_sync(server.join)


@pytest.mark.parametrize("place", ["home", "xdg"])
async def test_certs_d_is_found_where_podman_keeps_it_l2(
    serve: Serve, open_pool: OpenPool, ca: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / ".config"
    if place == "xdg":
        config = tmp_path / "elsewhere"
        monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    server = await _registry(serve, ca)
    folder = config / "containers" / "certs.d" / server.address
    folder.mkdir(parents=True)
    ca.cert_pem.write_to_path(folder / "ca.crt")
    assert await _ask(await open_pool(), server) == b"fine"


def test_the_folder_without_the_port_is_the_standard_ports(tmp_path: Path, ca: trustme.CA) -> None:
    (tmp_path / "registry.example").mkdir()
    ca.cert_pem.write_to_path(tmp_path / "registry.example" / "ca.crt")
    trust = Trust(certs_dir=tmp_path)
    own, plain = trust.context("registry.example", 443), trust.context("other.example", 443)
    assert isinstance(own, ssl.SSLContext)
    assert isinstance(plain, ssl.SSLContext)
    assert len(own.get_ca_certs()) == len(plain.get_ca_certs()) + 1
    assert trust.context("registry.example", 5000) is plain


def test_a_key_without_a_certificate_is_an_early_error_l2(tmp_path: Path, ca: trustme.CA) -> None:
    cert, key = _client(ca, tmp_path / "registry.example:443")
    with pytest.raises(InvalidInput, match=r"client\.key has no certificate"):
        Trust(key=key)
    with pytest.raises(InvalidInput, match=r"client\.cert has no key"):
        Trust(cert=cert)
    cert.unlink()
    with pytest.raises(InvalidInput, match=r"client\.key has no certificate"):
        Trust(certs_dir=tmp_path).context("registry.example", 443)


def test_a_certificate_without_a_key_is_an_early_error_l2(tmp_path: Path, ca: trustme.CA) -> None:
    _client(ca, tmp_path / "registry.example:443")[1].unlink()
    with pytest.raises(InvalidInput, match=r"client\.cert has no key"):
        Trust(certs_dir=tmp_path).context("registry.example", 443)


@pytest.mark.parametrize("name", ["junk", "none"])
def test_unusable_files_are_early_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "junk").write_text("junk")
    file = tmp_path / name
    with pytest.raises(InvalidInput, match=rf"{name} cannot be used"):
        Trust(ca=file)
    with pytest.raises(InvalidInput, match=rf"{name} cannot be used"):
        Trust(cert=file, key=file)
