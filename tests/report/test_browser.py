"""The page in a browser: charts are drawn, by scripts that its own policy lets run, and no network is asked."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncrane.report.page import report_page
from tests import peers
from tests.report import books
from tests.report.books import Book, Fleet

_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--hide-scrollbars",
    "--window-size=1200,1600",
    "--virtual-time-budget=10000",
)
_LIMIT = 60


class Browser:
    """Headless Chromium, with a profile of its own for each look."""

    def __init__(self, folder: Path) -> None:
        self._program = peers.require("chromium", package="chromium")
        self._folder = folder

    def __call__(self, page: str, *options: str) -> str:
        """What ``options`` make it print of ``page``."""
        file = self._folder / "report.html"
        file.write_text(page, encoding="utf-8")
        command = [str(self._program), *_QUIET, f"--user-data-dir={self._folder / 'profile'}", *options, file.as_uri()]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=True)
        return ended.stdout + ended.stderr


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


@pytest.mark.parametrize("run", [Fleet(40, seconds=20).play, books.hostile], ids=["fleet", "hostile"])
def test_every_chart_is_drawn_and_no_host_is_looked_for(
    browser: Browser, tmp_path: Path, run: Callable[[], Book]
) -> None:
    log = tmp_path / "net.json"
    dom = browser(report_page(run(), 1), "--dump-dom", "--enable-logging=stderr", "--v=0", f"--log-net-log={log}")
    assert 'data-drawn="4"' in dom, "the script ran to its end"
    assert dom.count('class="main-svg"') >= 4
    assert len(re.findall(r'class="(?:trace|point|js-fill|js-line)', dom)) > 4
    assert 'class="plain"' not in dom, "the plain drawings are gone"
    assert "Content Security Policy" not in dom, "nothing was refused that the page needs"
    assert "<title>Run 1: " in dom
    assert "Uncaught" not in dom
    assert not asked(log)


def test_a_page_that_did_look_for_a_host_would_be_noticed(browser: Browser, tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    browser('<img src="http://images.example/x.png">', "--dump-dom", f"--log-net-log={log}")
    assert asked(log) == {"http://images.example/x.png"}


def asked(log: Path) -> set[str]:
    """The addresses that a page asked for, as the browser's own log says: what nobody's page began is the browser's."""
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    begun = [event["params"] for event in events if "initiator" in event.get("params", ())]
    return {params["url"] for params in begun if params["initiator"] != "not an origin"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_looked_at_in_the_light_and_in_the_dark(browser: Browser, tmp_path: Path, scheme: str) -> None:
    picture = tmp_path / "report.png"
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    browser(report_page(Fleet(40, seconds=20, broken=5).play(), 1), f"--screenshot={picture}", *dark)
    content = picture.read_bytes()
    assert struct.unpack(">II", content[16:24]) == (1200, 1600)
    assert len(content) > 60_000, "more than an empty page"
