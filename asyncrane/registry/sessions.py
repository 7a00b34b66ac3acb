"""Upload sessions: opened by a POST, asked for their state, given up (distribution-spec, "Pushing blobs")."""

from __future__ import annotations

import re
from collections.abc import Mapping

import anyio

from asyncrane.errors import AsyncraneError, Denied, ServerFault, Unauthorized
from asyncrane.oci.digest import Digest
from asyncrane.registry.links import resolve, with_query
from asyncrane.transport.answer import Answer
from asyncrane.transport.challenge import pull_scope, push_scope
from asyncrane.transport.origin import Origin

_REFUSED = frozenset({400, 403, 404, 405, 500})
_RANGE = re.compile(r"(?:bytes[= ])?0-(\d{1,19})")
_LARGEST_MINIMUM = 1024 * 1024 * 1024
_GOODBYE = 3.0

HELD = 64 * 1024 * 1024
"""Bytes of a piece that is put together in memory at the most, whatever the registry wants."""


class Refused(Exception):
    """A mount was answered with an error: it is not to be had."""


class Session:
    """One upload: ``url`` is where it goes on, ``offset`` what the registry has, ``minimum`` the bytes a chunk needs.

    ``kept`` says that it was opened a while ago, by a mount that mounted nothing.
    """

    __slots__ = ("kept", "minimum", "offset", "url")

    def __init__(self, url: str, *, minimum: int = 0, kept: bool = False) -> None:
        self.kept = kept
        self.offset = 0
        self.minimum = minimum
        self.url = url

    def moved(self, answer: Answer) -> None:
        """Each answer says where the upload goes on."""
        if location := answer.headers.get("Location"):
            self.url = resolve(answer.url, location)

    def committing(self, digest: Digest) -> str:
        """Where the PUT that ends the upload goes."""
        return with_query(self.url, digest=digest)

    def __repr__(self) -> str:
        return f"Session({self.offset} bytes)"


def received(headers: Mapping[str, str]) -> int | None:
    """How many bytes an answer says the registry has; ``None`` when it does not say.

    ``0-0`` is what most registries say of an empty upload, so one byte is none.
    """
    found = _RANGE.fullmatch(headers.get("Range", "").strip())
    if found is None:
        return None
    last = int(found[1])
    return last + 1 if last else 0


def opened(answer: Answer, *, kept: bool = False) -> Session:
    """The session that a POST was answered with.

    :raises ServerFault: when the answer does not say where it goes on
    """
    location = answer.headers.get("Location")
    if not location:
        raise ServerFault(f"POST {answer.url.partition('?')[0]}: no Location", status=answer.status)
    minimum = answer.headers.get("OCI-Chunk-Min-Length", "")
    least = min(int(minimum[:19]), _LARGEST_MINIMUM) if minimum.isascii() and minimum.isdigit() else 0
    return Session(resolve(answer.url, location), minimum=least, kept=kept)


async def begin(origin: Origin, path: str) -> Session:
    """A new session of repository ``path``."""
    return opened(await origin.request("POST", _target(path), scopes=(push_scope(path),), expect=(202,)))


async def begin_mounting(origin: Origin, path: str, digest: Digest, donor: str) -> Session | None:
    """Ask for the blob from repository ``donor``: ``None`` when ``path`` has it now, else a session to send it.

    :raises Refused: when the registry wants nothing of it
    """
    scopes = (push_scope(path),) if donor == path else (push_scope(path), pull_scope(donor))
    target = with_query(_target(path), mount=digest, **{"from": donor})
    try:
        answer = await origin.request("POST", target, scopes=scopes, expect=(201, 202, *_REFUSED))
    except (Unauthorized, Denied) as error:  # a token that has run out is renewed first; none may be had for the donor
        raise Refused from error
    if answer.status in _REFUSED:
        raise Refused
    return None if answer.status == 201 else opened(answer, kept=donor != path)


async def update(origin: Origin, path: str, session: Session) -> None:
    """Ask how much of the upload has arrived.

    :raises NotFound: when the registry does not know it (any more)
    """
    answer = await origin.request("GET", session.url, scopes=(push_scope(path),), expect=(200, 202, 204))
    session.moved(answer)
    session.offset = received(answer.headers) or 0


async def abandon(origin: Origin, path: str, session: Session) -> None:
    """Tell the registry that nothing more will come, if it listens: it would keep the bytes for days. One that wants to
    be left alone for long is told all the same.
    """
    with anyio.move_on_after(_GOODBYE, shield=True):
        if (pause := origin.parked) < _GOODBYE:
            await anyio.sleep(pause)
        try:
            await origin.request("DELETE", session.url, scopes=(push_scope(path),), expect=range(200, 600), retry=False)
        except AsyncraneError:
            return  # it was a courtesy


def _target(path: str) -> str:
    return f"/v2/{path}/blobs/uploads/"
