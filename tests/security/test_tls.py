"""TLS is verified unless told otherwise, for the host that was meant and for no other."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from asyncrane.auth.credentials import Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.errors import ConnectFailed
from asyncrane.testing import FaultyRegistry
from asyncrane.transport import Pool
from asyncrane.transport.options import RegistryOptions
from asyncrane.transport.proxy import Proxies


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def serving_as(ca: trustme.CA, name: str = "127.0.0.1", *, expired: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    until = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
    ca.issue_cert(name, not_before=datetime(2019, 1, 1, tzinfo=UTC), not_after=until).configure_cert(context)
    return context


async def ask(pool: Pool, registry: FaultyRegistry) -> int:
    keychain = FixedKeychain(Credential("me", "hunter2"))
    return (await pool.origin(registry.address, keychain).request("GET", "/v2/")).status


@pytest.mark.parametrize("wrong", ["nobody's", "another host's", "expired"])
async def test_a_certificate_that_is_not_right_is_shown_nothing(ca: trustme.CA, tmp_path: Path, wrong: str) -> None:
    """Nor is plain HTTP tried there, on the loopback or with a password at hand."""
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = {
        "nobody's": lambda: serving_as(trustme.CA()),
        "another host's": lambda: serving_as(ca, "other.example"),
        "expired": lambda: serving_as(ca, expired=True),
    }[wrong]()
    async with (
        FaultyRegistry(ssl=context) as registry,
        Pool(ca=tmp_path / "ca.pem", proxies=Proxies(), retries=0) as pool,
    ):
        with pytest.raises(ConnectFailed, match="the certificate is not trusted"):
            await ask(pool, registry)
        assert len(registry.log) == 0


async def test_what_is_allowed_for_one_host_is_not_for_another(ca: trustme.CA) -> None:
    """``tls: {insecure: true}`` of a mirror file is that registry's alone."""
    async with FaultyRegistry(ssl=serving_as(ca)) as known, FaultyRegistry(ssl=serving_as(ca)) as other:
        options = {known.address: RegistryOptions(insecure=True)}
        async with Pool(registries=options, proxies=Proxies(), retries=0) as pool:
            assert await ask(pool, known) == 200
            with pytest.raises(ConnectFailed, match="the certificate is not trusted"):
                await ask(pool, other)
            assert len(other.log) == 0
