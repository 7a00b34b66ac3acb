"""The embedded registry: the OCI distribution API 1.1, in memory or in a directory.

async with serving(make_app(MemoryStorage())) as address:
    ...
"""

from __future__ import annotations

from asyncrane.server.access import Auth, BasicAuth, PlainUsers, Scope, Users
from asyncrane.server.api import Registry
from asyncrane.server.app import REGISTRY, access_log, make_app, parse_address, serving
from asyncrane.server.call import Around, Call, Handler, HangUp
from asyncrane.server.disk import DiskStorage
from asyncrane.server.htpasswd import HtpasswdUsers
from asyncrane.server.index import Index
from asyncrane.server.refusal import Refused, error_reply
from asyncrane.server.reply import Reply, Stream
from asyncrane.server.storage import Incoming, MemoryStorage, Storage
from asyncrane.server.tokens import TokenAuth

__all__ = [
    "REGISTRY",
    "Around",
    "Auth",
    "BasicAuth",
    "Call",
    "DiskStorage",
    "Handler",
    "HangUp",
    "HtpasswdUsers",
    "Incoming",
    "Index",
    "MemoryStorage",
    "PlainUsers",
    "Refused",
    "Registry",
    "Reply",
    "Scope",
    "Storage",
    "Stream",
    "TokenAuth",
    "Users",
    "access_log",
    "error_reply",
    "make_app",
    "parse_address",
    "serving",
]
