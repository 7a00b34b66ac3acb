"""The tree of errors: everything asyncrane raises on purpose is an :class:`AsyncraneError`.

    AsyncraneError                                                              exit 1
    ├── InvalidInput          the caller's words cannot be used                 exit 2
    │   ├── InvalidReference · InvalidDigest · InvalidPlatform · InvalidMirrorSpec
    ├── ContentError          the bytes are not what was promised               exit 5
    │   ├── DigestMismatch · SizeMismatch · UnsupportedManifest
    ├── RegistryError         a registry answered, and the answer was no        exit 1
    │   ├── NotFound                                                            exit 3
    │   ├── Unauthorized · Denied                                               exit 4
    │   ├── RateLimited                                                         exit 6
    │   └── ServerFault
    ├── TransportError        no answer, or only part of one                    exit 1
    │   ├── ConnectFailed · TimedOut · Interrupted
    ├── CredentialError       who we are could not be found out                 exit 4
    ├── JournalError          the journal of a run cannot be used               exit 1
    │   ├── JournalBusy
    │   └── JournalMissing                                                      exit 3
    ├── TagExists             no-clobber held                                   exit 1
    └── JobsFailed            some of many jobs failed                          exit 1

A message says what was asked of whom and what came back, in one line, without secrets. The library raises; only
the command line prints and exits.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


class AsyncraneError(Exception):
    """The root of the tree; ``exit_code`` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


class InvalidInput(AsyncraneError):
    """The caller's words cannot be used; nothing was sent anywhere."""

    exit_code = 2


class InvalidReference(InvalidInput):
    """A text is not a registry, repository, tag or image reference."""


class InvalidDigest(InvalidInput):
    """A text is not a digest (image-spec, descriptor.md, "Digests")."""


class InvalidPlatform(InvalidInput):
    """A text is not ``os/arch[/variant][:osversion]``, or an image has none of the wanted platforms."""


class InvalidMirrorSpec(InvalidInput):
    """A mirror file cannot be used; the message says where in it and why."""


class ContentError(AsyncraneError):
    """The bytes received are not the bytes that were promised."""

    exit_code = 5


class DigestMismatch(ContentError):
    """Bytes hash to another digest than the one they were asked for by."""


class SizeMismatch(ContentError):
    """There are more or fewer bytes than the descriptor says."""


class UnsupportedManifest(ContentError):
    """A manifest cannot be read as any known kind, or says two things at once (CVE-2021-41190)."""


class RegistryError(AsyncraneError):
    """A registry answered with an error.

    ``status`` is the HTTP status (0 when unknown), ``codes`` the error codes of the body
    (distribution-spec, "Error Codes").
    """

    def __init__(self, message: str, *, status: int = 0, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.codes = codes


class NotFound(RegistryError):
    """404: the repository, manifest, blob or upload session is not there."""

    exit_code = 3


class Unauthorized(RegistryError):
    """401 that credentials could not cure."""

    exit_code = 4


class Denied(RegistryError):
    """403: known, but not allowed."""

    exit_code = 4


class RateLimited(RegistryError):
    """429, or an exhausted quota; ``retry_after`` is seconds, ``None`` when the registry did not say."""

    exit_code = 6

    def __init__(
        self, message: str, *, status: int = 429, codes: tuple[str, ...] = (), retry_after: float | None = None
    ) -> None:
        super().__init__(message, status=status, codes=codes)
        self.retry_after = retry_after


class ServerFault(RegistryError):
    """5xx, or an answer that makes no sense."""


class TransportError(AsyncraneError):
    """The exchange with a host did not come to an end."""


class ConnectFailed(TransportError):
    """No connection: name resolution, refused, TLS."""


class TimedOut(TransportError):
    """Nothing arrived, or nothing could be sent, for longer than the limit."""


class Interrupted(TransportError):
    """The connection broke in the middle."""


class CredentialError(AsyncraneError):
    """A credential file or helper could not be used."""

    exit_code = 4


class JournalError(AsyncraneError):
    """The journal of a run cannot be opened, read or written: disk full, damaged, another version's."""


class JournalBusy(JournalError):
    """Another process is writing this journal; ``pid`` says which (0: unknown)."""

    def __init__(self, message: str, *, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class JournalMissing(JournalError):
    """There is no journal, or no such run in it, or nothing about what was asked for."""

    exit_code = 3


class TagExists(AsyncraneError):
    """The destination tag exists and no-clobber was asked for."""


class JobsFailed(AsyncraneError):
    """At least one of many jobs failed; ``failures`` holds what each ended with."""

    def __init__(self, message: str, *, failures: tuple[Failure, ...] = ()) -> None:
        super().__init__(message)
        self.failures = failures


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as a value: what travels in events, outcomes and JSON instead of an exception."""

    kind: str
    message: str
    status: int = 0
    codes: tuple[str, ...] = ()
    retry_after: float | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The value for ``error``; a foreign exception keeps its class name in the message."""
        if isinstance(error, RegistryError):
            wait = error.retry_after if isinstance(error, RateLimited) else None
            return cls(type(error).__name__, str(error), error.status, error.codes, wait)
        if isinstance(error, AsyncraneError):
            return cls(type(error).__name__, str(error))
        return cls("AsyncraneError", f"unexpected {type(error).__name__}: {error}")

    def error(self) -> AsyncraneError:
        """The exception this value stands for."""
        kind = _by_name().get(self.kind, AsyncraneError)
        if issubclass(kind, RateLimited):
            return kind(self.message, status=self.status, codes=self.codes, retry_after=self.retry_after)
        if issubclass(kind, RegistryError):
            return kind(self.message, status=self.status, codes=self.codes)
        return kind(self.message)


def _by_name() -> dict[str, type[AsyncraneError]]:
    found: dict[str, type[AsyncraneError]] = {}
    stack: list[type[AsyncraneError]] = [AsyncraneError]
    while stack:
        kind = stack.pop()
        found[kind.__name__] = kind
        stack.extend(kind.__subclasses__())
    return found
