"""asyncrane: move container images between OCI registries.

    import asyncrane

    async with asyncrane.Session() as session:
        outcome = await asyncrane.copy(session, "alpine:3.20", "registry.example.com/base/alpine:3.20")

What is public is what can be imported from here, from :mod:`asyncrane.images` (images as values, and what can be made
of them before anything is moved) and from :mod:`asyncrane.testing`; ``docs/library.md`` has examples. Names are loaded
when they are first used, so that a program that only parses references, or prints a help text, does not wait for an
HTTP client.
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
    from asyncrane.engine.journal import Journal as Journal
    from asyncrane.engine.journal import Run as Run
    from asyncrane.engine.outcome import Outcome as Outcome
    from asyncrane.engine.outcome import RegistryView as RegistryView
    from asyncrane.engine.outcome import Statistics as Statistics
    from asyncrane.engine.outcome import TargetOutcome as TargetOutcome
    from asyncrane.engine.outcome import TransferView as TransferView
    from asyncrane.engine.placing import Donors as Donors
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
    from asyncrane.errors import InvalidMirrorSpec as InvalidMirrorSpec
    from asyncrane.errors import InvalidPlatform as InvalidPlatform
    from asyncrane.errors import InvalidReference as InvalidReference
    from asyncrane.errors import JobsFailed as JobsFailed
    from asyncrane.errors import JournalBusy as JournalBusy
    from asyncrane.errors import JournalError as JournalError
    from asyncrane.errors import JournalMissing as JournalMissing
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
    from asyncrane.images.history import HistoryEntry as HistoryEntry
    from asyncrane.images.index import parse_wish as parse_wish
    from asyncrane.images.mutate import Changes as Changes
    from asyncrane.mirror.apply import Campaign as Campaign
    from asyncrane.mirror.apply import MirrorReport as MirrorReport
    from asyncrane.mirror.convert import mirror_convert as mirror_convert
    from asyncrane.mirror.document import load_mirror as load_mirror
    from asyncrane.mirror.history import Explanation as Explanation
    from asyncrane.mirror.history import explain as explain
    from asyncrane.mirror.history import measured_rate as measured_rate
    from asyncrane.mirror.plan import MirrorPlan as MirrorPlan
    from asyncrane.mirror.plan import mirror_plan as mirror_plan
    from asyncrane.mirror.proof import mirror_verify as mirror_verify
    from asyncrane.mirror.quantities import parse_size as parse_size
    from asyncrane.mirror.rollback import Restored as Restored
    from asyncrane.mirror.rollback import rollback as rollback
    from asyncrane.mirror.schema import mirror_schema as mirror_schema
    from asyncrane.mirror.spec import MirrorSpec as MirrorSpec
    from asyncrane.mirror.verify import Difference as Difference
    from asyncrane.mirror.verify import diff as diff
    from asyncrane.oci.descriptor import Descriptor as Descriptor
    from asyncrane.oci.digest import Digest as Digest
    from asyncrane.oci.manifest import Manifest as Manifest
    from asyncrane.oci.platform import Platform as Platform
    from asyncrane.oci.reference import Reference as Reference
    from asyncrane.oci.reference import Repository as Repository
    from asyncrane.operations.check import Verdict as Verdict
    from asyncrane.operations.check import validate as validate
    from asyncrane.operations.check import validate_source as validate_source
    from asyncrane.operations.convert import Conversion as Conversion
    from asyncrane.operations.convert import Converted as Converted
    from asyncrane.operations.convert import convert as convert
    from asyncrane.operations.convert import convert_all as convert_all
    from asyncrane.operations.copy import Pair as Pair
    from asyncrane.operations.copy import copy as copy
    from asyncrane.operations.copy import copy_all as copy_all
    from asyncrane.operations.demo import Comparison as Comparison
    from asyncrane.operations.demo import DemoReport as DemoReport
    from asyncrane.operations.demo import demo as demo
    from asyncrane.operations.edit import tag as tag
    from asyncrane.operations.editing import edit_config as edit_config
    from asyncrane.operations.editing import edit_file as edit_file
    from asyncrane.operations.editing import edit_manifest as edit_manifest
    from asyncrane.operations.export import export as export
    from asyncrane.operations.export import export_to as export_to
    from asyncrane.operations.index import index_append as index_append
    from asyncrane.operations.index import index_filter as index_filter
    from asyncrane.operations.index import index_list as index_list
    from asyncrane.operations.index import index_remove as index_remove
    from asyncrane.operations.inspect import Image as Image
    from asyncrane.operations.inspect import blob as blob
    from asyncrane.operations.inspect import inspect as inspect
    from asyncrane.operations.inspect import manifest as manifest
    from asyncrane.operations.inspect import resolve as resolve
    from asyncrane.operations.jobs import BulkJob as BulkJob
    from asyncrane.operations.jobs import is_job_file as is_job_file
    from asyncrane.operations.jobs import parse_jobs as parse_jobs
    from asyncrane.operations.jobs import run_jobs as run_jobs
    from asyncrane.operations.layout import layout_gc as layout_gc
    from asyncrane.operations.listing import Contents as Contents
    from asyncrane.operations.listing import catalog as catalog
    from asyncrane.operations.listing import contents as contents
    from asyncrane.operations.listing import tags as tags
    from asyncrane.operations.local import pull as pull
    from asyncrane.operations.local import push as push
    from asyncrane.operations.login import find_credential as find_credential
    from asyncrane.operations.login import login as login
    from asyncrane.operations.login import logout as logout
    from asyncrane.operations.moments import moment as moment
    from asyncrane.operations.publish import Published as Published
    from asyncrane.operations.publish import put as put
    from asyncrane.operations.remove import Deleted as Deleted
    from asyncrane.operations.remove import delete as delete
    from asyncrane.operations.remove import untag as untag
    from asyncrane.operations.reshape import flatten as flatten
    from asyncrane.operations.serve import serve as serve
    from asyncrane.operations.surgery import append as append
    from asyncrane.operations.surgery import mutate as mutate
    from asyncrane.operations.surgery import rebase as rebase
    from asyncrane.operations.surgery import rebase_job as rebase_job
    from asyncrane.operations.token import token as token
    from asyncrane.operations.trees import copy_tree as copy_tree
    from asyncrane.operations.trees import garbage as garbage
    from asyncrane.report.metrics import serve_metrics as serve_metrics
    from asyncrane.report.page import report_page as report_page
    from asyncrane.session import Session as Session
    from asyncrane.stores.daemon import open_daemon as open_daemon
    from asyncrane.stores.files import replaced as replaced
    from asyncrane.stores.layout import Layout as Layout
    from asyncrane.stores.layout import open_layout as open_layout
    from asyncrane.stores.locate import Location as Location
    from asyncrane.stores.locate import open_location as open_location
    from asyncrane.stores.locate import parse_location as parse_location
    from asyncrane.stores.locate import parse_repository as parse_repository
    from asyncrane.stores.memory import MemoryStore as MemoryStore
    from asyncrane.stores.ociarchive import open_oci_archive as open_oci_archive
    from asyncrane.stores.random import RandomSource as RandomSource
    from asyncrane.stores.remote import Remote as Remote
    from asyncrane.stores.tarball import open_archive as open_archive
    from asyncrane.transport.options import RegistryOptions as RegistryOptions

_HOMES = {
    "asyncrane.abc": (
        "Lister",
        "Place",
        "Reader",
        "Sink",
        "Site",
        "Source",
    ),
    "asyncrane.auth.credentials": ("Credential",),
    "asyncrane.auth.keychain": (
        "DefaultKeychain",
        "FixedKeychain",
        "Keychain",
    ),
    "asyncrane.engine.journal": (
        "Journal",
        "Run",
    ),
    "asyncrane.engine.outcome": (
        "Outcome",
        "RegistryView",
        "Statistics",
        "TargetOutcome",
        "TransferView",
    ),
    "asyncrane.engine.placing": ("Donors",),
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
        "InvalidMirrorSpec",
        "InvalidPlatform",
        "InvalidReference",
        "JobsFailed",
        "JournalBusy",
        "JournalError",
        "JournalMissing",
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
    "asyncrane.images.history": ("HistoryEntry",),
    "asyncrane.images.index": ("parse_wish",),
    "asyncrane.images.mutate": ("Changes",),
    "asyncrane.mirror.apply": (
        "Campaign",
        "MirrorReport",
    ),
    "asyncrane.mirror.convert": ("mirror_convert",),
    "asyncrane.mirror.document": ("load_mirror",),
    "asyncrane.mirror.history": (
        "Explanation",
        "explain",
        "measured_rate",
    ),
    "asyncrane.mirror.plan": (
        "MirrorPlan",
        "mirror_plan",
    ),
    "asyncrane.mirror.proof": ("mirror_verify",),
    "asyncrane.mirror.quantities": ("parse_size",),
    "asyncrane.mirror.rollback": (
        "Restored",
        "rollback",
    ),
    "asyncrane.mirror.schema": ("mirror_schema",),
    "asyncrane.mirror.spec": ("MirrorSpec",),
    "asyncrane.mirror.verify": (
        "Difference",
        "diff",
    ),
    "asyncrane.oci.descriptor": ("Descriptor",),
    "asyncrane.oci.digest": ("Digest",),
    "asyncrane.oci.manifest": ("Manifest",),
    "asyncrane.oci.platform": ("Platform",),
    "asyncrane.oci.reference": (
        "Reference",
        "Repository",
    ),
    "asyncrane.operations.check": (
        "Verdict",
        "validate",
        "validate_source",
    ),
    "asyncrane.operations.convert": (
        "Conversion",
        "Converted",
        "convert",
        "convert_all",
    ),
    "asyncrane.operations.copy": (
        "Pair",
        "copy",
        "copy_all",
    ),
    "asyncrane.operations.demo": (
        "Comparison",
        "DemoReport",
        "demo",
    ),
    "asyncrane.operations.edit": ("tag",),
    "asyncrane.operations.editing": (
        "edit_config",
        "edit_file",
        "edit_manifest",
    ),
    "asyncrane.operations.export": (
        "export",
        "export_to",
    ),
    "asyncrane.operations.index": (
        "index_append",
        "index_filter",
        "index_list",
        "index_remove",
    ),
    "asyncrane.operations.inspect": (
        "Image",
        "blob",
        "inspect",
        "manifest",
        "resolve",
    ),
    "asyncrane.operations.jobs": (
        "BulkJob",
        "is_job_file",
        "parse_jobs",
        "run_jobs",
    ),
    "asyncrane.operations.layout": ("layout_gc",),
    "asyncrane.operations.listing": (
        "Contents",
        "catalog",
        "contents",
        "tags",
    ),
    "asyncrane.operations.local": (
        "pull",
        "push",
    ),
    "asyncrane.operations.login": (
        "find_credential",
        "login",
        "logout",
    ),
    "asyncrane.operations.moments": ("moment",),
    "asyncrane.operations.publish": (
        "Published",
        "put",
    ),
    "asyncrane.operations.remove": (
        "Deleted",
        "delete",
        "untag",
    ),
    "asyncrane.operations.reshape": ("flatten",),
    "asyncrane.operations.serve": ("serve",),
    "asyncrane.operations.surgery": (
        "append",
        "mutate",
        "rebase",
        "rebase_job",
    ),
    "asyncrane.operations.token": ("token",),
    "asyncrane.operations.trees": (
        "copy_tree",
        "garbage",
    ),
    "asyncrane.report.metrics": ("serve_metrics",),
    "asyncrane.report.page": ("report_page",),
    "asyncrane.stores.files": ("replaced",),
    "asyncrane.session": ("Session",),
    "asyncrane.stores.daemon": ("open_daemon",),
    "asyncrane.stores.layout": (
        "Layout",
        "open_layout",
    ),
    "asyncrane.stores.locate": (
        "Location",
        "open_location",
        "parse_location",
        "parse_repository",
    ),
    "asyncrane.stores.memory": ("MemoryStore",),
    "asyncrane.stores.ociarchive": ("open_oci_archive",),
    "asyncrane.stores.random": ("RandomSource",),
    "asyncrane.stores.remote": ("Remote",),
    "asyncrane.stores.tarball": ("open_archive",),
    "asyncrane.transport.options": ("RegistryOptions",),
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
