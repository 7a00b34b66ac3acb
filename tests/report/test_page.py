"""The page about a run says what the journal says, escapes what hostile registries say, and reaches for nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from asyncrane.engine.journal import Journal
from asyncrane.engine.outcome import Statistics
from asyncrane.errors import Failure, InvalidInput, JournalError
from asyncrane.report.charts import charts, ticks
from asyncrane.report.facts import ROWS, gather
from asyncrane.report.page import report_page
from tests.report import books
from tests.report.books import BACKUP, CLOUD, SOURCE, START, Book, Fleet, Run, Sample

RUNS = {
    "empty": books.empty,
    "one image": Fleet(1, seconds=4).play,
    "failures": Fleet(60, seconds=20, broken=3).play,
    "killed and resumed": books.killed,
    "hostile": books.hostile,
}


@pytest.fixture(params=RUNS)
def page(request: pytest.FixtureRequest) -> str:
    return report_page(RUNS[request.param](), 1)


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where plotly is not installed."""
    for name in ("plotly", "plotly.offline"):
        monkeypatch.setitem(sys.modules, name, None)


class Tags(HTMLParser):
    """Every tag with its attributes, and what is in scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def words(page: str) -> str:
    """What a reader reads."""
    body = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_nothing_is_fetched_whatever_the_run(page: str) -> None:
    for tag, attributes in Tags(page).tags:
        assert not {"src", "href", "srcset", "data", "action", "background"} & set(attributes), tag
        assert tag not in ("link", "iframe", "object", "embed", "img", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_policy_lets_only_the_scripts_run_that_the_page_came_with(page: str) -> None:
    tags = Tags(page)
    policy = next(a["content"] or "" for t, a in tags.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    run = [script for script, (_, a) in zip(tags.scripts, scripts(tags), strict=True) if "type" not in a]
    packed = [script for script, (_, a) in zip(tags.scripts, scripts(tags), strict=True) if a.get("id") == "plotly"]
    run += [gzip.decompress(base64.b64decode(script)).decode() for script in packed]
    assert allowed == {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in run}
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]


def scripts(tags: Tags) -> list[tuple[str, dict[str, str | None]]]:
    return [(tag, attributes) for tag, attributes in tags.tags if tag == "script"]


def test_plotly_is_in_the_page_once_and_less_than_half_as_large_as_it_comes() -> None:
    page = report_page(Fleet(20).play(), 1)
    assert page.count('id="plotly"') == 1
    assert len(page) < 2_400_000


def test_names_that_try_to_be_more_stay_names() -> None:
    page = report_page(books.hostile(), 1)
    tags = Tags(page)
    assert [a.get("id") for _, a in scripts(tags)] == ["figures", "plotly", None]
    figures = json.loads(tags.scripts[0])
    assert "</script>" not in tags.scripts[0]
    assert not re.search("<(?!/?b>)", json.dumps(figures)), "plotly takes names for HTML"
    assert '</script><script>document.title="owned"</script>' in words(page)


@pytest.mark.usefixtures("unplotted")
def test_without_plotly_the_page_has_every_number_and_small_drawings() -> None:
    page = report_page(Fleet(60, seconds=20, broken=3).play(), 1)
    assert "<script" not in page
    assert len(page) < 200_000
    assert page.count("<svg") == 2 + 3 + 3 + 2, "directions, limits, where time went, what was saved"
    assert "received, at most" in words(page)


@pytest.mark.usefixtures("unplotted")
def test_both_pages_say_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = report_page(Fleet(30, seconds=20).play(), 1)
    monkeypatch.undo()
    plotted = report_page(Fleet(30, seconds=20).play(), 1)
    assert words(plain).partition("Made by")[0] == words(plotted).partition("Made by")[0]


def test_without_jinja2_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InvalidInput, match=r"asyncrane\[report\]"):
        report_page(books.empty(), 1)


def test_an_empty_run_says_so() -> None:
    said = words(report_page(books.empty(), 1))
    assert "Run 1 done" in said
    assert "Nothing happened" in said
    assert "Throughput" not in said


def test_the_headline_adds_up() -> None:
    fleet = Fleet(50, seconds=100)
    said = words(report_page(fleet.play(), 1))
    counts = fleet.count
    assert "Images 100 at their destinations" in said
    assert f"Time 1 min 40 s {counts.bytes_read / 100 / 1e6:.1f} MB/s read" in said
    asked = counts.bytes_written + counts.bytes_mounted
    saved = 1 - (counts.bytes_read + counts.bytes_written) / (2 * asked)
    assert f"Saved {100 * saved:.1f} %" in said


def test_more_than_was_asked_for_is_no_saving() -> None:
    """While a run goes on, and where a broken download was read again."""
    book = Book(Run(1, "apply", "mirror.yaml", "running", START, None))
    counts = Statistics(bytes_read=12_000_000, bytes_written=8_000_000)
    book.looks = [Sample(START + second, counts) for second in (1, 2)]
    said = words(report_page(book, 1))
    assert "Saved 0.0 % of 16.0 MB" in said
    assert "8.0 MB in all, counted once for every repository. Moved for it, both ways: 20.0 MB." in said
    assert "became" not in said


def test_failures_come_first_and_are_grouped() -> None:
    said = words(report_page(Fleet(60, seconds=20, broken=3).play(), 1))
    assert "Images 120 20 failures" in said
    assert said.index("What went wrong") < said.index("Throughput")
    assert f"Denied 403 {CLOUD.name} 20" in said
    assert f"PUT https://{CLOUD.name}/v2/copy/team/service-0/manifests/v1.0: 403 denied" in said


def test_no_name_is_squeezed_into_a_column_of_single_letters() -> None:
    """On a phone a table is scrolled: whatever has a slash in it has a width below which it does not go."""
    page = report_page(Fleet(60, seconds=20, broken=3).play(), 1)
    assert "td.name { min-width: 13em; }" in page
    assert "td.words { min-width: 22em; }" in page
    assert page.count('<td class="name">') > 20
    assert re.findall(r"<td>[^<]*/[^<]*<", page) == []


def test_what_no_image_says_is_read_from_the_summary() -> None:
    refused = Failure("Denied", "GET https://x/v2/a/tags/list: 403", 403)
    summary = {
        "unreadable": [{"repository": "x/a", "failure": refused}],
        "deleted": [{"destination": "y/b:v1"}, {"destination": "y/b:v2", "failure": refused}],
    }
    book = books.empty()
    book.only = msgspec.structs.replace(book.only, summary=msgspec.json.encode(summary).decode())
    facts = gather(book, 1)
    assert [(trouble.where, trouble.what) for trouble in facts.troubles] == [
        ("x/a", "not read"),
        ("y/b:v2", "not deleted"),
    ]
    assert facts.images == {"deleted": 1}


def test_a_summary_that_cannot_be_read_costs_nothing_else() -> None:
    book = Fleet(3, seconds=3).play()
    book.only = msgspec.structs.replace(book.only, summary='{"unreadable": 7}')
    assert gather(book, 1).images == {"copied": 6}


def test_tags_that_named_something_else_come_before_new_ones() -> None:
    facts = gather(Fleet(300, moved=7).play(), 1)
    assert (facts.tags_moved, facts.tags_made) == (86, 514)
    assert [bool(move.before) for move in facts.tags] == [True] * 86 + [False] * 14
    assert facts.tags[0].name == f"{BACKUP.name}/copy/team/service-0:v1.0"
    assert facts.tags[0].before == str(books.digest("old 0"))


def test_where_time_went_is_told_by_registry_and_kind() -> None:
    facts = gather(Fleet(10, seconds=10).play(), 1)
    assert facts.spent[SOURCE.name]["resolving tags"] == pytest.approx(10 * 0.03)
    assert facts.spent[BACKUP.name]["writing manifests"] == pytest.approx(10 * 0.08)
    copied = facts.spent[SOURCE.name]["reading blobs"]
    assert facts.spent[BACKUP.name]["writing blobs"] == pytest.approx(copied), "a copy takes the time of both sides"


def test_the_slowest_blobs_lead_to_the_command_that_explains_them() -> None:
    book = Fleet(100, seconds=10).play()
    facts = gather(book, 1)
    times = [blob.seconds for blob in facts.slowest]
    assert times == sorted(times, reverse=True)
    assert len(times) == 20
    assert f"asyncrane mirror explain 1 {facts.slowest[0].digest}" in report_page(book, 1)


def test_jobs_that_have_not_ended_are_counted() -> None:
    assert gather(books.killed(), 1).images == {"copied": 80, "not finished": 6}


def test_figures_are_what_plotly_takes() -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    for run in RUNS.values():
        for chart in charts(gather(run(), 1)).values():
            graph_objects.Figure(data=chart.data, layout=chart.layout)


@pytest.mark.parametrize("seconds", [0.3, 1, 7, 45, 60, 3599, 86_400, 864_000])
def test_a_time_axis_has_few_marks_and_none_twice(seconds: float) -> None:
    where, text = ticks(seconds)
    assert 2 <= len(where) <= 9
    assert len(set(text)) == len(text)
    assert where[-1] <= seconds


def test_a_run_of_10000_images_is_a_page_of_bounded_size_in_five_seconds() -> None:
    book = Fleet(10_000, seconds=36_000, broken=50).play()
    began = time.process_time()
    page = report_page(book, 1)
    assert time.process_time() - began < 5
    assert len(page) < 2_400_000
    assert page.count("<tr>") < 4 * ROWS
    said = words(page)
    assert "Images 20 000 200 failures" in said, "thousands are apart by a narrow space"
    assert "more failures" in said
    assert "more tags" in said


def record(path: Path, book: Book) -> None:
    """Write what ``book`` holds into a journal."""
    with Journal.open(path) as journal:
        journal.begin(book.only.kind, spec=book.only.spec, options="{}")
        for one in book.records:
            assert one.message is not None
            journal.record(one.message)
        for look in book.looks:
            journal.sample(look.statistics)
        journal.finish(book.only.status, summary="")


def test_a_page_drawn_from_a_journal_says_the_same(tmp_path: Path) -> None:
    book = Fleet(40, seconds=10, broken=4).play()
    record(tmp_path / "journal.db", book)
    with Journal.read(tmp_path / "journal.db") as journal:
        read, remembered = gather(journal, 1), gather(book, 1)
    assert read.images == remembered.images
    assert read.spent == remembered.spent
    assert read.slowest == remembered.slowest
    assert read.tags == remembered.tags
    assert read.counts == remembered.counts


def test_a_run_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    record(tmp_path / "journal.db", books.empty())
    with Journal.read(tmp_path / "journal.db") as journal, pytest.raises(JournalError, match="7"):
        report_page(journal, 7)
