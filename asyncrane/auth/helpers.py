"""Credential helpers: programs ``docker-credential-*`` that keep secrets elsewhere (docker/docker-credential-helpers).

Helpers are slow, and cloud ones call out: for one registry a helper runs once, however many tasks want to know. What
it said is kept until somebody finds it refused; that it failed is told to everybody who waited, and not kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping

import anyio
import msgspec

from asyncrane.auth.credentials import ANONYMOUS, IDENTITY_USER, Credential, Secretive
from asyncrane.auth.programs import Ended, run
from asyncrane.errors import CredentialError

_NOT_FOUND = "credentials not found in native keychain"
_SUFFIX = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


class _Answer(Secretive, frozen=True):
    username: str | None = msgspec.field(name="Username", default=None)
    secret: str | None = msgspec.field(name="Secret", default=None)


class _Slot:
    """What is known of one helper and server; ``runs`` counts finished runs, so that waiters know which was theirs."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.runs = 0
        self.known: Credential | None = None
        self.failure = ""

    def credential(self) -> Credential | None:
        """What the helper said, if it has been asked since the last refusal."""
        return self.known


class Helpers:
    """Runs helpers found on ``PATH`` of ``environ``; ``limit`` is the seconds one may take."""

    def __init__(self, *, environ: Mapping[str, str] | None = None, limit: float = 30.0) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._limit = limit
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._runs = 0

    async def get(self, suffix: str, server: str) -> Credential:
        """What the helper keeps for a server, anonymous when it keeps nothing.

        :raises CredentialError: when the helper is not there, fails, takes too long or answers nonsense
        """
        slot = self._slots.setdefault((suffix, server), _Slot())
        if known := slot.credential():
            return known
        runs = slot.runs
        # A lock rather than a shared task: when the task that runs the helper is cancelled, the next one takes over.
        async with slot.lock:
            if known := slot.credential():
                return known
            if slot.runs != runs and slot.failure:
                raise CredentialError(slot.failure)
            try:
                slot.known = await self._get(suffix, server)
                slot.failure = ""
            except CredentialError as exc:
                slot.failure = str(exc)
                raise
            finally:
                slot.runs += 1
            return slot.known

    def forget(self, server: str) -> None:
        """Ask again next time about a server and what is below it. An answer on its way is new already and stays."""
        for (_, known), slot in self._slots.items():
            if (known == server or known.startswith(f"{server}/")) and not slot.lock.locked():
                slot.known = None

    async def store(self, suffix: str, server: str, credential: Credential) -> None:
        """Make the helper keep a user and password, or an identity token.

        :raises CredentialError: as for :meth:`get`
        """
        username = IDENTITY_USER if credential.identity_token else credential.username
        secret = credential.identity_token or credential.password
        order = {"ServerURL": server, "Username": username, "Secret": secret}
        ended = await self._run(suffix, "store", json.dumps(order).encode())
        if ended.status:
            raise CredentialError(_complaint(suffix, "store", server, ended, secret))
        self.forget(server)

    async def erase(self, suffix: str, server: str) -> None:
        """Make the helper forget a server; that it knows nothing of it is no failure.

        :raises CredentialError: as for :meth:`get`
        """
        ended = await self._run(suffix, "erase", server.encode())
        if ended.status and not _says_not_found(ended):
            raise CredentialError(_complaint(suffix, "erase", server, ended))
        self.forget(server)

    async def list(self, suffix: str) -> dict[str, str]:
        """The servers a helper knows, each with its user name.

        :raises CredentialError: as for :meth:`get`
        """
        ended = await self._run(suffix, "list", b"")
        if ended.status:
            raise CredentialError(_complaint(suffix, "list", "", ended))
        try:
            return msgspec.json.decode(ended.stdout, type=dict[str, str])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise CredentialError(f"{program(suffix)} list: the answer is not a JSON object of names") from None

    def statistics(self) -> dict[str, int]:
        """How many processes were started, how many servers are known."""
        return {"runs": self._runs, "known": sum(slot.known is not None for slot in self._slots.values())}

    def __repr__(self) -> str:
        return f"Helpers(limit={self._limit:g}, runs={self._runs})"

    async def _get(self, suffix: str, server: str) -> Credential:
        ended = await self._run(suffix, "get", server.encode())
        if ended.status:
            if _says_not_found(ended):
                return ANONYMOUS
            raise CredentialError(_complaint(suffix, "get", server, ended))
        try:
            answer = msgspec.json.decode(ended.stdout, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # without the text: a half-written answer may hold the secret
            message = f"{program(suffix)} get {server}: the answer is not JSON with Username and Secret"
            raise CredentialError(message) from None
        return Credential.of(answer.username or "", answer.secret or "")

    async def _run(self, suffix: str, verb: str, order: bytes) -> Ended:
        name = program(suffix)
        path = shutil.which(name, path=self._environ.get("PATH", os.defpath))
        if path is None:
            raise CredentialError(f"the credential helper {name} is configured and not on PATH")
        self._runs += 1
        try:
            ended = await run(path, verb, order=order, environ=self._environ, limit=self._limit)
        except OSError as exc:
            raise CredentialError(f"cannot run {path}: {exc.strerror or type(exc).__name__}") from exc
        if ended is None:
            raise CredentialError(f"{name} {verb}: no answer within {self._limit:g} s, killed")
        return ended


def program(suffix: str) -> str:
    """The name of a helper's program.

    :raises CredentialError: when the suffix could lead out of ``PATH``
    """
    if not _SUFFIX.fullmatch(suffix):
        raise CredentialError(f"not the name of a credential helper: {suffix[:60]!r}")
    return f"docker-credential-{suffix}"


def _says_not_found(ended: Ended) -> bool:
    return _NOT_FOUND in (ended.stdout + ended.stderr).decode(errors="replace")


def _complaint(suffix: str, verb: str, server: str, ended: Ended, secret: str = "") -> str:
    """One line: who was asked what, and the helper's own words, unless they look like an answer with a secret."""
    said = (ended.stdout.strip() or ended.stderr.strip()).decode(errors="replace")
    last = said.splitlines()[-1].strip()[:200] if said else ""
    if "Secret" in said or "{" in said or (secret and secret in said):
        last = ""
    asked = f"{program(suffix)} {verb} {server}".rstrip()
    return f"{asked}: {last or 'failed'} (exit {ended.status})"
