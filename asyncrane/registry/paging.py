"""Lists that come in pages: every page, or an error, never a short list.

(distribution-spec, "Listing Tags"; the next page is where ``Link`` says, whatever its parameters.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, TypeVar

import msgspec

from asyncrane.errors import ServerFault
from asyncrane.oci.weight import is_heavy
from asyncrane.registry.links import next_page, resolve, same_host
from asyncrane.transport.answer import Answer
from asyncrane.transport.origin import Origin
from asyncrane.transport.redaction import bare_url

Item = TypeVar("Item")

_LARGEST_PAGE = 64 * 1024 * 1024
_MOST_VALUES = 4_000_000
MOST_PAGES = 10_000
"""More than any list has: one that only goes on has no end."""

_MOST_EMPTY = 100
"""In a row: pages may be empty where somebody may not see all."""


async def first_page(
    origin: Origin, target: str, *, scopes: Sequence[str] = (), expect: Collection[int] = (200,)
) -> Answer:
    """One page, up to 64 MiB: distribution 2.8 sends all tags at once.

    :raises NotFound: when there is no such list
    """
    return await origin.request("GET", target, scopes=scopes, limit=_LARGEST_PAGE, expect=expect)


async def pages(
    origin: Origin,
    target: str,
    read: Callable[[Answer], Sequence[Item]],
    *,
    scopes: Sequence[str] = (),
    after: Callable[[Sequence[Item]], str | None] = lambda _: None,
    single: str = "",
) -> AsyncIterator[Sequence[Item]]:
    """The items of each page from ``target`` on; ``after`` says where more may be when a page has no ``Link``, and
    ``single`` asks for one item: a registry that sends the same page for both has no pages, and sends all at once.

    :raises ServerFault: when the pages go round in circles, have no end, or lead to another host, or nothing leads on
    """
    wanted: str | None = target
    asked: set[str] = set()
    shown: set[int] = set()
    last = empty = 0
    guessed = False
    while wanted is not None:
        asked.add(wanted)
        answer = await first_page(origin, wanted, scopes=scopes)
        items = read(answer)
        page = hash(tuple(items))
        if items and page in shown:
            if guessed and page == last and hash(tuple(read(await first_page(origin, single, scopes=scopes)))) == page:
                return
            again = f"GET {bare_url(answer.url)}: a page that was sent before: the list may not be complete"
            raise ServerFault(again, status=answer.status)
        empty = 0 if items else empty + 1
        if empty > _MOST_EMPTY or len(asked) > MOST_PAGES:
            message = f"GET {bare_url(answer.url)}: the list has no end: {len(asked)} pages so far"
            raise ServerFault(message, status=answer.status)
        yield items
        shown.add(page)
        last = page
        link = next_page(answer)
        guessed = link is None
        wanted = after(items) if link is None else following(answer, link)
        if wanted in asked:
            raise ServerFault(f"GET {bare_url(answer.url)}: the next page is an earlier one: the list is not complete")


def following(answer: Answer, link: str) -> str:
    """Where ``link`` of ``answer`` leads.

    :raises ServerFault: when it leads to another host
    """
    target = resolve(answer.url, link)
    if not same_host(answer.url, target):
        raise ServerFault(f"GET {bare_url(answer.url)}: the next page is on another host: the list is not complete")
    return target


def decode(answer: Answer) -> dict[str, Any]:
    """The JSON object in ``answer``.

    :raises ServerFault: when it is something else
    """
    if is_heavy(answer.body, _MOST_VALUES):
        raise ServerFault(f"GET {bare_url(answer.url)}: a page of more than {_MOST_VALUES} values")
    try:
        fields = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise ServerFault(
            f"GET {bare_url(answer.url)}: the answer is not JSON: {str(exc)[:80]}", status=answer.status
        ) from exc
    if not isinstance(fields, dict):
        raise ServerFault(f"GET {bare_url(answer.url)}: the answer is not a JSON object", status=answer.status)
    return fields
