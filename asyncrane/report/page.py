"""One HTML page about a run, drawn from the journal: it fetches nothing, so it can be mailed, archived, or looked at
years later.

Charts are drawn by plotly's own script, which is in the page once and compressed. Where no script runs (mail, pages
served under a strict policy) or plotly was not installed when the page was made, small drawings stand in for them: all
numbers are there in any case. Names come from registries that may be hostile: everything is escaped, and the page's
Content-Security-Policy lets only the scripts run that this module put there, and none of them reach any network.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from datetime import UTC, datetime
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from asyncrane.errors import InvalidInput
from asyncrane.report import words
from asyncrane.report.charts import charts, chosen
from asyncrane.report.facts import ROWS, Book, Facts, gather

if TYPE_CHECKING:
    from jinja2 import Environment

_STATUSES = (
    "copied",
    "tagged",
    "equal",
    "skipped",
    "conflict",
    "failed",
    "cancelled",
    "not finished",
    "deleted",
)
_BAD = ("conflict", "failed", "cancelled", "not finished")


def report_page(journal: Book, run: int) -> str:
    """The page about ``run``. With plotly its charts can be looked into; without it they are plain drawings.

    :raises InvalidInput: when jinja2 is not installed (``asyncrane[report]``)
    :raises JournalError: when there is no such run, or it cannot be read
    """
    environment = _environment()
    facts = gather(journal, run)
    drawn = charts(facts)
    hosts = [host for host, _ in chosen(facts.time.registries)]
    script = _script()
    plotly = _plotly() if drawn else None
    figures = {name: {"data": chart.data, "layout": chart.layout} for name, chart in drawn.items()}
    return environment.get_template("page.html.j2").render(
        facts=facts,
        charts=drawn,
        figures=figures if plotly else {},
        plotly=plotly.packed if plotly else "",
        script=script,
        policy=_policy(_hash(script), plotly.hash) if plotly else _policy(),
        statuses=[status for status in _STATUSES if facts.images.get(status)],
        bad=_BAD,
        rows=ROWS,
        saved=_saved(facts),
        hosts=hosts,
        others=len(hosts) < len(facts.time.registries),
        requests=_requests(facts, hosts),
        made=datetime.now(UTC).timestamp(),
    )


class _Plotly(msgspec.Struct, frozen=True):
    """Plotly's script, packed as it is in the page, and what a policy calls it."""

    packed: str
    hash: str


def _plotly() -> _Plotly | None:
    """Plotly's script, if it is installed: three times smaller than it comes."""
    try:
        source: str = import_module("plotly.offline").get_plotlyjs()  # an extra, slow to load, without types
    except ImportError:
        return None
    packed = base64.b64encode(gzip.compress(source.encode(), mtime=0)).decode()
    return _Plotly(packed, _hash(source))


def _script() -> str:
    return files(__package__).joinpath("page.js").read_text(encoding="utf-8").strip()


def _hash(script: str) -> str:
    """How a Content-Security-Policy names a script (CSP 3, "hash-source")."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _policy(*scripts: str) -> str:
    """Nothing from anywhere, and of scripts only these. Plotly sets styles as it draws."""
    allowed = f" script-src {' '.join(scripts)};" if scripts else ""
    return f"default-src 'none';{allowed} style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidInput("a page needs jinja2, which is not installed: pip install 'asyncrane[report]'") from None
    environment = Environment(
        loader=PackageLoader("asyncrane.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for word in (
        words.size,
        words.rate,
        words.duration,
        words.when,
        words.short,
        words.share,
        words.number,
        words.plural,
    ):
        environment.filters[word.__name__] = word
    return environment


def _saved(facts: Facts) -> float | None:
    """The part of all bytes that did not move, of those that would have: each read and written once per repository."""
    would = 2 * facts.asked
    did = facts.counts.bytes_read + facts.counts.bytes_written
    return max(0.0, 1 - did / would) if would else None


def _requests(facts: Facts, hosts: list[str]) -> list[tuple[str, list[int], int]]:
    """Kind, number at each of ``hosts`` (and at all others), number at all; what was asked most often comes first."""
    table: dict[str, dict[str, int]] = {}
    for host, registry in facts.time.registries.items():
        for kind, number in registry.requests.items():
            row = table.setdefault(kind, {})
            name = host if host in hosts else ""
            row[name] = row.get(name, 0) + number
    columns = [*hosts, ""] if len(hosts) < len(facts.time.registries) else hosts
    rows = [(kind, [row.get(name, 0) for name in columns], sum(row.values())) for kind, row in table.items()]
    return sorted((row for row in rows if row[2]), key=lambda row: (-row[2], row[0]))[:ROWS]
