"""Repositories that have to exist before anything can be pushed: created when a push finds one missing, each once.

Most registries create a repository with the first push to it. ECR does so only with a template (aws/containers-roadmap
#853), and answers 404 NAME_UNKNOWN otherwise; others may be taught by a command.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import anyio.to_thread
import msgspec

from asyncrane.auth.programs import run
from asyncrane.errors import AsyncraneError, NotFound, RegistryError
from asyncrane.transport.flight import Flight
from asyncrane.transport.options import OnMissing
from asyncrane.transport.redaction import scrubbed

LIMIT = 120.0
"""Seconds that creating a repository may take."""

_REMEMBERED = 60.0
_OTHERS = frozenset({"MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN"})
_SAYS_MISSING = re.compile(r"not exist|not found|NAME_UNKNOWN|RepositoryNotFound", re.IGNORECASE)
_PRIVATE = re.compile(
    r"""(\d{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.
        (?:amazonaws\.com|amazonaws\.com\.cn|on\.aws|on\.amazonwebservices\.com\.cn)""",
    re.VERBOSE,
)
_PUBLIC = frozenset({"public.ecr.aws", "ecr-public.aws.com"})
_PUBLIC_REGION = "us-east-1"
"""The only region with an API for public repositories (Amazon ECR Public, "Service endpoints")."""

Create = Callable[[str], Awaitable[None]]


class _NotCreated(Exception):
    """Why a repository could not be created."""


class Creations:
    """What is done about repositories of ``registry`` that are missing: it goes to :attr:`Origin.on_missing`.

    :param how: ``create`` at registries that are known, or the words of a command, in which ``{registry}`` and
        ``{repository}`` stand for what they say; it also finds them in its environment as ``ASYNCRANE_REGISTRY`` and
        ``ASYNCRANE_REPOSITORY``
    :param limit: seconds that one creation may take
    """

    def __init__(
        self, registry: str, how: OnMissing, *, limit: float = LIMIT, environ: Mapping[str, str] | None = None
    ) -> None:
        self._registry = registry
        self._limit = limit
        self._environ = os.environ if environ is None else environ
        self._create = self._creator(how)
        self._flights: dict[str, Flight[None]] = {}
        self._created: set[str] = set()
        self._failed: dict[str, tuple[float, str]] = {}

    async def __call__(self, path: str, error: RegistryError) -> bool:
        """If ``error``, which a push ended with, says that repository ``path`` is missing, create it: ``True`` when it
        is there now. Who asks while it is being created waits for that; what could not be created is not tried again
        for a minute.

        :raises NotFound: when it cannot be created
        """
        if self._create is None or not means_missing(error):
            return False
        if path in self._created:
            return True
        until, why = self._failed.get(path, (0.0, ""))
        if why and time.monotonic() < until:
            raise self._lost(path, why)
        try:
            await self._flights.setdefault(path, Flight()).run(partial(self._create, path))
        except _NotCreated as exc:
            self._failed[path] = time.monotonic() + _REMEMBERED, str(exc)
            raise self._lost(path, str(exc)) from exc
        self._created.add(path)
        return True

    def _lost(self, path: str, why: str) -> AsyncraneError:
        message = f"{self._registry}/{path}: the repository does not exist, and {why}"
        return NotFound(message, status=404, codes=("NAME_UNKNOWN",))

    def _creator(self, how: OnMissing) -> Create | None:
        if how == "fail":
            return None
        if not isinstance(how, str):
            return partial(self._command, how)
        if self._registry in _PUBLIC or _PRIVATE.fullmatch(self._registry):
            return self._at_ecr
        return self._nowhere

    async def _nowhere(self, path: str) -> None:
        raise _NotCreated(
            "only ECR's are created by asyncrane itself: give the registry on_missing_repository: {command: [...]}"
        )

    async def _command(self, words: tuple[str, ...], path: str) -> None:
        command = [word.replace("{registry}", self._registry).replace("{repository}", path) for word in words]
        environ = {**self._environ, "ASYNCRANE_REGISTRY": self._registry, "ASYNCRANE_REPOSITORY": path}
        try:
            ended = await run(*command, environ=environ, limit=self._limit)
        except OSError as exc:
            raise _NotCreated(f"{command[0]} cannot be run: {exc.strerror or type(exc).__name__}") from exc
        if ended is None:
            raise _NotCreated(f"{command[0]} took more than {self._limit:g} s to create it and was killed")
        if ended.status:
            said = (ended.stderr.strip() or ended.stdout.strip()).decode(errors="replace")
            last = scrubbed(" ".join(said.split())[-400:], 400)
            raise _NotCreated(f"{command[0]} failed to create it (exit {ended.status}){f': {last}' if last else ''}")

    async def _at_ecr(self, path: str) -> None:
        with anyio.move_on_after(self._limit):
            # a thread cannot be cancelled: it ends by its own limits, and nobody waits for it
            await anyio.to_thread.run_sync(create_at_ecr, self._registry, path, abandon_on_cancel=True)
            return
        raise _NotCreated(f"ECR did not create it within {self._limit:g} s")

    def __repr__(self) -> str:
        return f"Creations({self._registry}, created={len(self._created)})"


def means_missing(error: RegistryError) -> bool:
    """Whether a push was refused because there is no such repository.

    A 404 that is about something else says so; 403 is what is said to those who may not even know (ECR, Harbor), and
    then it is the text that tells.
    """
    if "NAME_UNKNOWN" in error.codes:
        return True
    if error.status == 404:
        return not _OTHERS.intersection(error.codes)
    return error.status == 403 and _SAYS_MISSING.search(str(error)) is not None


class EcrRepository(msgspec.Struct, frozen=True):
    """How ECR's API knows a repository: ``service`` is that of boto, ``arguments`` are those of CreateRepository."""

    service: str
    region: str
    arguments: dict[str, str]

    @classmethod
    def of(cls, registry: str, path: str) -> EcrRepository:
        """The repository ``path`` of an ECR registry; a public one's path begins with its owner's alias."""
        private = _PRIVATE.fullmatch(registry)
        if private is None:
            return cls("ecr-public", _PUBLIC_REGION, {"repositoryName": path.partition("/")[2]})
        account, region = private.groups()
        return cls("ecr", region, {"registryId": account, "repositoryName": path})


def create_at_ecr(registry: str, path: str) -> None:
    """Create a repository, as whoever boto's own configuration says we are. One that is there is fine. Blocks."""
    wanted = EcrRepository.of(registry, path)
    try:
        session: Any = import_module("botocore.session")
        config: Any = import_module("botocore.config")
        exceptions: Any = import_module("botocore.exceptions")
    except ImportError as exc:
        raise _NotCreated("to create it at ECR botocore is needed: pip install 'asyncrane[aws]'") from exc
    limits = config.Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "max_attempts": 4})
    try:
        client = session.Session().create_client(wanted.service, region_name=wanted.region, config=limits)
        try:
            client.create_repository(**wanted.arguments)
        finally:
            client.close()
    except exceptions.ClientError as exc:
        if exc.response.get("Error", {}).get("Code") != "RepositoryAlreadyExistsException":
            raise _NotCreated(f"ECR does not create it: {scrubbed(str(exc), 300)}") from exc
    except exceptions.BotoCoreError as exc:
        raise _NotCreated(f"ECR cannot be asked to create it: {scrubbed(str(exc), 300)}") from exc
