"""A token service that must not be asked: it would be sent the password.

The policy for other hosts: content is read from where a redirection leads and sent to where a Location leads, without
credentials, never from https to http, and never to a private address unless the registry itself is at one; lists are
read at the registry alone (``tests/security/test_hosts.py``). The token service is the host that the registry names, by
https wherever the registry is.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from asyncrane import Credential, FixedKeychain, RegistryOptions, Session, copy
from asyncrane.errors import ServerFault
from asyncrane.testing import FaultyRegistry, LoggedRequest, status
from tests.faults.world import PASSWORD

SECRETS = (PASSWORD, Credential("fleet", PASSWORD).basic())


def knows(request: LoggedRequest) -> bool:
    """Whether a request gives away who we are."""
    said = f"{request.path}?{request.query} {dict(request.headers)}"
    return "Authorization" in request.headers or any(secret in said for secret in SECRETS)


@pytest.mark.parametrize("realm", ["http://{}/token", "http://user:word@{}/token?service=x", "file:///etc/passwd"])
async def test_a_token_service_without_tls_is_not_asked(tmp_path: Path, realm: str) -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    authority = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(authority)
    async with FaultyRegistry(ssl=context) as registry, FaultyRegistry() as elsewhere:
        challenge = {"WWW-Authenticate": f'Bearer realm="{realm.format(elsewhere.address)}",service="x"'}
        registry.faults.add(status(401, headers=challenge, error="UNAUTHORIZED"))
        trusted = {registry.address: RegistryOptions(ca=authority)}
        keychain = FixedKeychain(Credential("fleet", PASSWORD))
        async with Session(keychain=keychain, registries=trusted, retries=0) as session:
            with pytest.raises(ServerFault, match="token"):
                await copy(session, f"{registry.address}/app:v1", f"{elsewhere.address}/copy:v1")
        assert [request for request in elsewhere.log if request.kind == "token" or knows(request)] == []
        assert not any(knows(request) for request in registry.log)
