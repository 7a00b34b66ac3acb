"""asyncrane: move container images between OCI registries.

    import asyncrane

    async with asyncrane.Session() as session:
        outcome = await asyncrane.copy(session, "alpine:3.20", "registry.example.com/base/alpine:3.20")

What is public is what can be imported from here. Names are loaded when they are first used, so that a program that only
parses references, or prints a help text, does not wait for an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asyncrane._version import __version__ as __version__

if TYPE_CHECKING:
    from asyncrane.abc import Lister as Lister
    from asyncrane.abc import Place as Place
    from asyncrane.abc import Reader as Reader
    from asyncrane.abc import Sink as Sink
    from asyncrane.abc import Site as Site
    from asyncrane.abc import Source as Source
    from asyncrane.auth.credentials import Credential as Credential
    from asyncrane.auth.keychain import DefaultKeychain as DefaultKeychain
    from asyncrane.auth.keychain import FixedKeychain as FixedKeychain
    from asyncrane.auth.keychain import Keychain as Keychain
    from asyncrane.engine.outcome import Outcome as Outcome
    from asyncrane.engine.outcome import Statistics as Statistics
    from asyncrane.engine.outcome import TargetOutcome as TargetOutcome
    from asyncrane.engine.outcome import TransferView as TransferView
    from asyncrane.errors import AsyncraneError as AsyncraneError
    from asyncrane.errors import ConnectFailed as ConnectFailed
    from asyncrane.errors import ContentError as ContentError
    from asyncrane.errors import CredentialError as CredentialError
    from asyncrane.errors import Denied as Denied
    from asyncrane.errors import DigestMismatch as DigestMismatch
    from asyncrane.errors import Failure as Failure
    from asyncrane.errors import Interrupted as Interrupted
    from asyncrane.errors import InvalidDigest as InvalidDigest
    from asyncrane.errors import InvalidInput as InvalidInput
    from asyncrane.errors import InvalidPlatform as InvalidPlatform
    from asyncrane.errors import InvalidReference as InvalidReference
    from asyncrane.errors import JobsFailed as JobsFailed
    from asyncrane.errors import NotFound as NotFound
    from asyncrane.errors import RateLimited as RateLimited
    from asyncrane.errors import RegistryError as RegistryError
    from asyncrane.errors import ServerFault as ServerFault
    from asyncrane.errors import SizeMismatch as SizeMismatch
    from asyncrane.errors import TagExists as TagExists
    from asyncrane.errors import TimedOut as TimedOut
    from asyncrane.errors import TransportError as TransportError
    from asyncrane.errors import Unauthorized as Unauthorized
    from asyncrane.errors import UnsupportedManifest as UnsupportedManifest
    from asyncrane.oci.descriptor import Descriptor as Descriptor
    from asyncrane.oci.digest import Digest as Digest
    from asyncrane.oci.manifest import Manifest as Manifest
    from asyncrane.oci.platform import Platform as Platform
    from asyncrane.oci.reference import Reference as Reference
    from asyncrane.oci.reference import Repository as Repository
    from asyncrane.operations.copy import Pair as Pair
    from asyncrane.operations.copy import copy as copy
    from asyncrane.operations.copy import copy_all as copy_all
    from asyncrane.operations.demo import Comparison as Comparison
    from asyncrane.operations.demo import DemoReport as DemoReport
    from asyncrane.operations.demo import demo as demo
    from asyncrane.operations.edit import tag as tag
    from asyncrane.operations.inspect import Image as Image
    from asyncrane.operations.inspect import blob as blob
    from asyncrane.operations.inspect import inspect as inspect
    from asyncrane.operations.inspect import manifest as manifest
    from asyncrane.operations.inspect import resolve as resolve
    from asyncrane.operations.listing import catalog as catalog
    from asyncrane.operations.listing import tags as tags
    from asyncrane.operations.login import find_credential as find_credential
    from asyncrane.operations.login import login as login
    from asyncrane.operations.login import logout as logout
    from asyncrane.operations.remove import delete as delete
    from asyncrane.operations.serve import serve as serve
    from asyncrane.operations.token import token as token
    from asyncrane.session import Session as Session
    from asyncrane.stores.memory import MemoryStore as MemoryStore
    from asyncrane.stores.random import RandomSource as RandomSource

_HOMES = {
    "asyncrane.abc": ("Lister", "Place", "Reader", "Sink", "Site", "Source"),
    "asyncrane.auth.credentials": ("Credential",),
    "asyncrane.auth.keychain": ("DefaultKeychain", "FixedKeychain", "Keychain"),
    "asyncrane.engine.outcome": ("Outcome", "Statistics", "TargetOutcome", "TransferView"),
    "asyncrane.errors": (
        "AsyncraneError",
        "ConnectFailed",
        "ContentError",
        "CredentialError",
        "Denied",
        "DigestMismatch",
        "Failure",
        "Interrupted",
        "InvalidDigest",
        "InvalidInput",
        "InvalidPlatform",
        "InvalidReference",
        "JobsFailed",
        "NotFound",
        "RateLimited",
        "RegistryError",
        "ServerFault",
        "SizeMismatch",
        "TagExists",
        "TimedOut",
        "TransportError",
        "Unauthorized",
        "UnsupportedManifest",
    ),
    "asyncrane.oci.descriptor": ("Descriptor",),
    "asyncrane.oci.digest": ("Digest",),
    "asyncrane.oci.manifest": ("Manifest",),
    "asyncrane.oci.platform": ("Platform",),
    "asyncrane.oci.reference": ("Reference", "Repository"),
    "asyncrane.operations.copy": ("Pair", "copy", "copy_all"),
    "asyncrane.operations.demo": ("Comparison", "DemoReport", "demo"),
    "asyncrane.operations.edit": ("tag",),
    "asyncrane.operations.inspect": ("Image", "blob", "inspect", "manifest", "resolve"),
    "asyncrane.operations.listing": ("catalog", "tags"),
    "asyncrane.operations.login": ("find_credential", "login", "logout"),
    "asyncrane.operations.remove": ("delete",),
    "asyncrane.operations.serve": ("serve",),
    "asyncrane.operations.token": ("token",),
    "asyncrane.session": ("Session",),
    "asyncrane.stores.memory": ("MemoryStore",),
    "asyncrane.stores.random": ("RandomSource",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'asyncrane' has no attribute {name!r}") from None
    found = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
