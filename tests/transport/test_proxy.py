"""Proxies from the environment, with the meaning they have in Go (L3)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import anyio
import pytest
import trustme
from yarl import URL

from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import ConnectFailed, InvalidInput
from asyncrane.transport.proxy import Proxies, Proxy
from tests.transport.conftest import OpenPool, Serve
from tests.transport.server import Server, fine

BOTH = {"HTTP_PROXY": "http://proxy:3128", "HTTPS_PROXY": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    # what Go 1.2x's net/http answered for these
    [
        ("", "https://example.com/", True),
        ("*", "https://example.com/", False),
        (" * ", "https://10.0.0.1/", False),
        ("a,*", "https://b.com", False),
        ("example.com", "https://example.com/", False),
        ("example.com", "https://sub.example.com/", False),
        ("example.com", "https://notexample.com/", True),
        (".example.com", "https://example.com/", True),
        (".example.com", "https://sub.example.com/", False),
        ("*.example.com", "https://example.com/", True),
        ("*.example.com", "https://a.b.example.com/", False),
        ("EXAMPLE.com", "https://Example.COM/", False),
        ("example.com:443", "https://example.com/", False),
        ("example.com:5000", "https://example.com/", True),
        ("example.com:5000", "https://example.com:5000/", False),
        ("example.com:5000", "https://sub.example.com:5000/", False),
        ("example.com:80", "http://example.com/", False),
        ("example.com:443", "http://example.com/", True),
        ("other.com, example.com", "https://example.com/", False),
        (" , ,example.com ,", "https://example.com/", False),
        ("example.com other.com", "https://example.com/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", False),
        ("10.0.0.0/8", "https://10.1.2.3:5000/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
        ("10.0.0.0/8", "https://ten.example/", True),
        ("10.1.2.3/8", "https://10.200.0.1/", False),
        ("10.1.2.3", "https://10.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.4/", True),
        ("10.1.2.3:5000", "https://10.1.2.3:5000/", False),
        ("10.1.2.3:5000", "https://10.1.2.3/", True),
        ("10.0.0.0/33", "https://10.1.2.3/", True),
        ("10.*", "https://10.1.2.3/", True),
        (".2.3", "https://10.1.2.3/", True),
        ("2.3", "https://10.1.2.3/", True),
        ("2001:db8::/32", "https://[2001:db8::1]/", False),
        ("2001:db8::1", "https://[2001:db8::1]/", False),
        ("[2001:db8::1]", "https://[2001:db8::1]/", True),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000/", False),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]/", True),
        ("2001:db8::1", "https://[2001:db8:0::1]/", False),
        ("::ffff:10.1.2.3", "https://10.1.2.3/", False),
        ("10.1.2.3", "https://[::ffff:10.1.2.3]/", False),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/", False),
        ("", "https://localhost/", False),
        ("", "https://localhost:5000/", False),
        ("", "https://127.0.0.1:5000/", False),
        ("", "https://127.9.9.9/", False),
        ("", "https://[::1]:5000/", False),
        ("", "https://sub.localhost/", True),
        (":5000", "https://example.com:5000/", True),
        ("example.com:", "https://example.com/", False),
        ("com", "https://example.com/", False),
        (".com", "https://example.com/", False),
        ("example", "https://example.com/", True),
        ("*example.com", "https://sub.example.com/", True),
        ("https://example.com", "https://example.com/", True),
        ("example.com.", "https://example.com/", True),
        ("[example.com]:443", "https://example.com/", False),
        ("foo:bar:baz", "https://foo/", True),
        ("10.1.2.3/32", "https://10.1.2.3/", False),
        ("0.0.0.0/0", "https://8.8.8.8/", False),
        ("::/0", "https://8.8.8.8/", True),
        ("010.1.2.3", "https://10.1.2.3/", True),
    ],
)
def test_no_proxy_means_what_it_means_in_go_l3(no_proxy: str, url: str, proxied: bool) -> None:
    """L3: the right column is what ``http.ProxyFromEnvironment`` returned."""
    parts = URL(url)
    found = Proxies.from_environment({**BOTH, "NO_PROXY": no_proxy}).choose(
        parts.scheme, parts.host or "", parts.port or 0
    )
    assert (found is not None) is proxied


def test_each_scheme_has_its_own_proxy_and_upper_case_comes_first() -> None:
    proxies = Proxies.from_environment(
        {"http_proxy": "a:1", "HTTP_PROXY": "", "HTTPS_PROXY": "b:2", "https_proxy": "c:3", "ALL_PROXY": "d:4"}
    )
    assert proxies.choose("http", "registry.example", 80) == Proxy("http://a:1")
    assert proxies.choose("https", "registry.example", 443) == Proxy("http://b:2")


def test_a_cgi_scripts_proxy_header_is_no_proxy() -> None:
    assert Proxies.from_environment({"HTTP_PROXY": "a:1", "REQUEST_METHOD": "GET"}).choose("http", "h", 80) is None


def test_user_and_password_are_not_shown() -> None:
    proxy = Proxy.parse("http://me:p%40ss@proxy.example:3128")
    assert proxy == Proxy("http://proxy.example:3128", "Basic bWU6cEBzcw==")
    assert repr(proxy) == "Proxy(http://proxy.example:3128)"


@pytest.mark.parametrize("text", ["socks5://proxy:1080", "http://", "http://[::1", "http://h:port"])
def test_an_unusable_proxy_is_an_early_error(text: str) -> None:
    with pytest.raises(InvalidInput):
        Proxies(https=text)


class Tunnels:
    """A forward proxy: CONNECT, and absolute requests."""

    def __init__(self, targets: Callable[[str], int], *, authorization: str = "") -> None:
        self.targets = targets
        self.authorization = authorization
        self.seen: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        self.seen.append(f"{method} {target}")
        if self.authorization and f"Proxy-Authorization: {self.authorization}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        tunnel = method == "CONNECT"
        other, onward = await asyncio.open_connection("127.0.0.1", self.targets(target))
        if tunnel:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            onward.write(head.encode())
        async with anyio.create_task_group() as group:
            group.start_soon(_pump, reader, onward)
            group.start_soon(_pump, other, writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _listen(tunnels: Tunnels) -> tuple[asyncio.Server, str]:
    server = await asyncio.start_server(tunnels, "127.0.0.1", 0)
    return server, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_plain_requests_go_through_the_proxy_with_its_password(serve: Serve, open_pool: OpenPool) -> None:
    registry: Server = await serve(fine)
    tunnels = Tunnels(lambda target: registry.port, authorization="Basic bWU6cHc=")
    server, address = await _listen(tunnels)
    async with server:
        pool = await open_pool(plain=["registry.example"], proxies=Proxies(http=f"me:pw@{address}"))
        answer = await pool.origin("registry.example", FixedKeychain()).request("GET", "/v2/x?a=%2F")
        assert answer.body == b"fine"
    # as Go does: the request line holds the whole URL
    assert tunnels.seen == ["GET http://registry.example/v2/"]
    assert registry.asked[-1].raw_path == "http://registry.example/v2/x?a=%2F"


async def test_tls_is_tunnelled_through_the_proxy_with_its_password(serve: Serve, open_pool: OpenPool) -> None:
    """L3: the password is the proxy's; the registry never sees it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("registry.example").configure_cert(context)
    registry: Server = await serve(fine, context=context)
    tunnels = Tunnels(lambda target: registry.port, authorization="Basic bWU6cHc=")
    server, address = await _listen(tunnels)
    async with server:
        pool = await open_pool(insecure=True, proxies=Proxies(https=f"http://me:pw@{address}"))
        assert (await pool.origin("registry.example", FixedKeychain()).request("GET", "/v2/x")).body == b"fine"
        assert set(tunnels.seen) == {"CONNECT registry.example:443"}
        assert not [a for a in registry.asked if "Proxy-Authorization" in a.headers]
        pool = await open_pool(proxies=Proxies(https=f"http://me:wrong@{address}"))
        with pytest.raises(ConnectFailed, match="the proxy answered 407 Proxy Authentication Required"):
            await pool.origin("registry.example", FixedKeychain()).request("GET", "/v2/x")


async def test_no_proxy_there_is_one_line(open_pool: OpenPool, free_port: int) -> None:
    pool = await open_pool(proxies=Proxies(https=f"http://me:pw@127.0.0.1:{free_port}"), retry_base=60.0)
    with pytest.raises(ConnectFailed, match="no connection to the proxy: connection refused"):
        await pool.origin("registry.example", FixedKeychain()).request("GET", "/v2/x")


async def test_loopback_is_reached_directly(serve: Serve, open_pool: OpenPool, free_port: int) -> None:
    registry = await serve(fine)
    pool = await open_pool(proxies=Proxies(http=f"127.0.0.1:{free_port}", https=f"127.0.0.1:{free_port}"))
    assert (await pool.origin(registry.address, FixedKeychain()).request("GET", "/v2/x")).body == b"fine"
