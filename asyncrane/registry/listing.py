"""Names: the tags of a repository, the repositories of a registry (distribution-spec, "Listing Tags"; ``_catalog``)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import quote

from asyncrane.errors import NotFound, ServerFault
from asyncrane.registry import google
from asyncrane.registry.links import next_page
from asyncrane.registry.paging import decode, first_page, pages
from asyncrane.transport.answer import Answer
from asyncrane.transport.challenge import catalog_scope, pull_scope
from asyncrane.transport.origin import Origin
from asyncrane.transport.redaction import bare_url

_PAGE = 1000
"""Entries to ask for at once: ECR refuses more."""


async def tags(origin: Origin, path: str, *, scopes: Sequence[str] = ()) -> AsyncIterator[str]:
    """Every tag of repository ``path``, in the registry's order.

    :raises NotFound: when there is no such repository
    :raises ServerFault: when the list cannot be had completely
    """
    target = f"/v2/{path}/tags/list"
    async for page in _names(origin, target, "tags", scopes or (pull_scope(path),)):
        for name in page:
            yield name


async def tags_page(origin: Origin, path: str, *, scopes: Sequence[str] = ()) -> tuple[tuple[str, ...], bool] | None:
    """What one request tells about the tags of ``path``: tags, and whether these are all. ``None``: no repository."""
    size = _page_size(origin)
    try:
        answer = await first_page(origin, f"/v2/{path}/tags/list?n={size}", scopes=scopes or (pull_scope(path),))
    except NotFound:
        return None
    found = _reader("tags")(answer)
    return tuple(found), next_page(answer) is None and len(found) != size


async def catalog(origin: Origin) -> AsyncIterator[str]:
    """Every repository of the registry, as far as it tells us.

    :raises ServerFault: when the list cannot be had completely
    """
    async for page in _names(origin, "/v2/_catalog", "repositories", (catalog_scope(),)):
        for name in page:
            yield name


def _names(origin: Origin, target: str, key: str, scopes: Sequence[str]) -> AsyncIterator[Sequence[str]]:
    size = _page_size(origin)

    def after(page: Sequence[str]) -> str | None:
        # A full page without a Link is the end, or the work of a registry that knows only `last`.
        return f"{target}?n={size}&last={quote(page[-1], safe='')}" if len(page) == size else None

    single = f"{target}?n=1"
    return pages(origin, f"{target}?n={size}", _reader(key), scopes=scopes, after=after, single=single)


def _reader(key: str) -> Callable[[Answer], Sequence[str]]:
    def read(answer: Answer) -> Sequence[str]:
        fields = decode(answer)
        names = fields.get(key)
        if names is None and fields.get("errors"):
            raise ServerFault(f"GET {bare_url(answer.url)}: an error in place of {key!r}", status=answer.status)
        if names is not None and not isinstance(names, list):
            raise ServerFault(f"GET {bare_url(answer.url)}: {key!r} is not a list", status=answer.status)
        return [name for name in names or () if isinstance(name, str) and name]  # Nexus puts nulls between them

    return read


def _page_size(origin: Origin) -> int:
    return google.PAGE if google.is_google(origin.registry) else _PAGE
