"""Origins of the servers here, and the scopes they are asked with."""

from __future__ import annotations

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.keychain import FixedKeychain
from asyncrane.transport import Origin, pull_scope, push_scope
from tests.transport.conftest import OpenPool
from tests.transport.server import Server

PULL = (pull_scope("x"),)
PUSH = (push_scope("x"),)


async def origin_of(server: Server, open_pool: OpenPool, credential: Credential = ANONYMOUS) -> Origin:
    pool = await open_pool()
    return pool.origin(server.address, FixedKeychain(credential))
