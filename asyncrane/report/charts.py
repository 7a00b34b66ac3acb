"""The charts of the page about a run: for plotly as plain JSON, and as a small SVG for where no script runs.

Colours are numbers of a palette here: the page knows the colours, which are others in the dark.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, pairwise
from typing import Any, Literal, TypeAlias

import msgspec

from asyncrane.report import words
from asyncrane.report.facts import KINDS, READING, WRITING, Facts
from asyncrane.report.timeline import Registry

Figure: TypeAlias = dict[str, Any]
"""A part of a plotly figure (plotly's figure reference)."""

SERIES = 6
"""Registries that are drawn one by one; those that moved least are left to the table."""

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_TICKS = 8
_KIND_COLOURS = (0, 1, 2, 3, 4, 5, 6, 7, 9)
_WIDTH, _HEIGHT = 720, 90
_BAR, _ROW = 22, 52
_TALL, _LOW = 130, 76
"""Pixels of a panel: of the few that a chart is about, and of those that there is one of for each registry."""
_GAP = 26

_LONGEST = 30
"""Letters of a name beside a bar: what is longer leaves no room for the bar."""

OTHER = 8
"""The colour of what did not move."""


class Line(msgspec.Struct, frozen=True):
    """One line of a panel, and what it shows: ``stack`` lies on the lines before it, ``area`` is what fills ``limit``,
    which is drawn as steps: it holds until it is changed.
    """

    name: str
    values: Sequence[float]
    colour: int
    style: Literal["stack", "area", "limit"]


class Panel(msgspec.Struct, frozen=True):
    """Lines over the time that all panels of a chart share."""

    title: str
    lines: list[Line]


class Part(msgspec.Struct, frozen=True):
    """One stretch of the bars of a chart, in each of its rows."""

    name: str
    values: Sequence[float]
    colour: int


class Chart(msgspec.Struct, frozen=True):
    """A chart as JSON for plotly; ``plain`` is HTML that stands in for it, ``legend`` says what each colour means."""

    id: str
    data: list[Figure]
    layout: Figure
    plain: str
    legend: list[tuple[str, int]]


def charts(facts: Facts) -> dict[str, Chart]:
    """All charts there is something to draw in."""
    made = (_throughput(facts), _limits(facts), _spent(facts), _saved(facts))
    return {chart.id: chart for chart in made if chart is not None}


def chosen(registries: Mapping[str, Registry]) -> list[tuple[str, Registry]]:
    """The registries that moved most, in an order that gives each its colour in all charts."""
    return sorted(registries.items(), key=lambda item: (-item[1].received - item[1].sent, item[0]))[:SERIES]


def _throughput(facts: Facts) -> Chart | None:
    """Stacked, because what is read from one registry is written to others at the same rate: lines would hide lines."""
    hosts = chosen(facts.time.registries)
    received = [Line(host, r.receiving, at, "stack") for at, (host, r) in enumerate(hosts) if r.received]
    sent = [Line(host, r.sending, at, "stack") for at, (host, r) in enumerate(hosts) if r.sent]
    panels = [Panel("received", received), Panel("sent", sent)]
    axis = {"ticksuffix": "B/s", "tickformat": "~s", "hoverformat": ".3s"}
    legend = [(host, at) for at, (host, registry) in enumerate(hosts) if registry.received or registry.sent]
    return _over_time("throughput", facts, [panel for panel in panels if panel.lines], axis, legend, height=_TALL)


def _limits(facts: Facts) -> Chart | None:
    panels = [
        Panel(host, [Line("under way", registry.busy, at, "area"), Line("limit", registry.limits, at, "limit")])
        for at, (host, registry) in enumerate(chosen(facts.time.registries))
        if registry.peak
    ]
    return _over_time("limits", facts, panels, {"tickformat": "d", "nticks": 4}, [], height=_LOW)


def _over_time(
    name: str, facts: Facts, panels: Sequence[Panel], axis: Figure, legend: list[tuple[str, int]], *, height: int
) -> Chart | None:
    time = facts.time
    if len(time.elapsed) < 2 or not panels or not time.seconds:
        return None
    clock = [datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC") for at in time.clock]
    common = {"type": "scatter", "mode": "lines", "x": time.elapsed, "customdata": clock}
    data = [
        {**common, **_trace(line, panel), "yaxis": _axis("y", at)}
        for at, panel in enumerate(panels)
        for line in panel.lines
    ]
    where, text = ticks(time.seconds)
    whole = len(panels) * (height + _GAP)
    layout: Figure = {
        "height": whole + 34,
        "hovermode": "x unified",
        "hoversubplots": "axis",
        "xaxis": {
            "tickvals": where,
            "ticktext": text,
            "range": [0, time.seconds],
            "unifiedhovertitle": {"text": "%{customdata}"},
            "showgrid": False,
            "anchor": _axis("y", len(panels) - 1),
        },
        "shapes": [{"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper"} for x in _resumed(facts)],
        "annotations": [_note(x, 1, "resumed ", xref="x", xanchor="right", yanchor="top") for x in _resumed(facts)],
    }
    for at, panel in enumerate(panels):
        low = (len(panels) - 1 - at) * (height + _GAP) / whole
        high = low + height / whole
        layout[_axis("yaxis", at)] = {**axis, "rangemode": "tozero", "domain": [round(low, 4), round(high, 4)]}
        layout["annotations"].append(_note(0, high, f"<b>{_plain(panel.title)}</b>", xref="paper", xanchor="left"))
    plain = "".join(_sparkline(panel, time.elapsed, unit=axis.get("ticksuffix", "")) for panel in panels)
    return Chart(name, data, layout, plain, legend)


def _trace(line: Line, panel: Panel) -> Figure:
    trace: Figure = {"y": [round(value, 1) for value in line.values], "meta": line.colour}
    match line.style:
        case "stack":
            return {
                **trace,
                "name": f"{_plain(line.name)} {panel.title}",
                "stackgroup": panel.title,
                "line": {"width": 1},
            }
        case "area":
            trace |= {"fill": "tozeroy", "line": {"width": 0, "shape": "hv"}}
        case "limit":
            trace |= {"line": {"width": 2, "shape": "hv"}}
    return {**trace, "name": f"{_plain(panel.title)}: {line.name}"}


def _axis(name: str, at: int) -> str:
    """Plotly's name of the first, second... axis."""
    return f"{name}{at + 1}" if at else name


def _resumed(facts: Facts) -> list[float]:
    return [facts.time.elapsed[at] for at in facts.time.breaks]


def _note(x: float, y: float, text: str, **where: str) -> Figure:
    return {"x": x, "y": y, "yref": "paper", "yanchor": "bottom", "text": text, "showarrow": False, **where}


def ticks(seconds: float) -> tuple[list[float], list[str]]:
    """Places and words for an axis of ``seconds``."""
    step = next((step for step in _STEPS if seconds / step <= _TICKS), seconds / _TICKS)
    where = [round(step * at, 3) for at in range(int(seconds / step) + 1)]
    return where, [_clock(at, fine=step < 1) for at in where]


def _clock(seconds: float, *, fine: bool) -> str:
    if fine or seconds < 60:
        return f"{seconds:.1f} s" if fine else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _spent(facts: Facts) -> Chart | None:
    if not any(sum(spent.values()) for spent in facts.spent.values()):
        return None
    order = {host: at for at, (host, _) in enumerate(chosen(facts.time.registries))}
    hosts = sorted(facts.spent, key=lambda host: (order.get(host, SERIES), -sum(facts.spent[host].values())))[:SERIES]
    kinds = [READING, WRITING, *(kind for kind in KINDS.values() if kind != READING)]
    parts = [
        Part(kind, [facts.spent[host].get(kind, 0.0) for host in hosts], colour)
        for kind, colour in zip(kinds, _KIND_COLOURS, strict=True)
    ]
    axis = {"ticksuffix": " s", "tickformat": "~r", "hoverformat": ".1f"}
    return _bars("spent", hosts, [part for part in parts if any(part.values)], axis)


def _saved(facts: Facts) -> Chart | None:
    counts = facts.counts
    if not facts.asked:
        return None
    spared = max(0, facts.asked - counts.bytes_read)
    parts = [
        Part("read", [counts.bytes_read, 0], 0),
        Part("not read", [spared, 0], OTHER),
        Part("written", [0, counts.bytes_written], 1),
        Part("mounted", [0, counts.bytes_mounted], 2),
        Part("there already", [0, counts.bytes_existing], OTHER),
    ]
    axis = {"ticksuffix": "B", "tickformat": "~s", "hoverformat": ".3s"}
    return _bars("saved", ["from sources", "to destinations"], [part for part in parts if any(part.values)], axis)


def _bars(name: str, rows: Sequence[str], parts: Sequence[Part], axis: Figure) -> Chart:
    names = [_plain(row) for row in rows]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": _plain(part.name),
            "y": list(range(len(rows))),
            "customdata": names,
            "x": [round(value, 3) for value in part.values],
            "width": 0.5,
            "meta": part.colour,
        }
        for part in parts
    ]
    layout = {
        "barmode": "stack",
        "hovermode": "y unified",
        "height": _ROW * len(rows) + 50,
        "xaxis": {**axis, "rangemode": "tozero", "nticks": 6},
        "yaxis": {
            "tickvals": list(range(len(rows))),
            "ticktext": [_plain(_short(row)) for row in rows],
            "unifiedhovertitle": {"text": "%{customdata}"},
            "autorange": "reversed",
            "showgrid": False,
            "zeroline": False,
        },
    }
    legend = [(part.name, part.colour) for part in parts]
    return Chart(name, data, layout, _stacks(rows, parts), legend)


def _sparkline(panel: Panel, times: Sequence[float], *, unit: str) -> str:
    """Lines without axes, and what is highest."""
    tops: list[Sequence[float]] = []
    for line in panel.lines:
        below = tops[-1] if tops and line.style == "stack" else [0.0] * len(times)
        tops.append([low + value for low, value in zip(below, line.values, strict=True)])
    most = max(max(top) for top in tops)
    across, up = _WIDTH / (times[-1] or 1.0), (_HEIGHT - 4) / (most or 1.0)
    shapes = []
    for line, top in zip(panel.lines, tops, strict=True):
        points = [(at * across, _HEIGHT - value * up) for at, value in zip(times, top, strict=True)]
        if line.style != "stack":
            corners = [((x, before), (x, after)) for (_, before), (x, after) in pairwise(points)]
            points = [*points[:1], *chain.from_iterable(corners)]
        if line.style != "limit":
            points = [(0, _HEIGHT), *points, (_WIDTH, _HEIGHT)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shape = "polyline" if line.style == "limit" else "polygon"
        shapes.append(f'<{shape} class="s{line.colour} {line.style}" points="{path}"/>')
    if panel.lines[0].style == "stack":
        shapes.reverse()  # what lies on others reaches down to the floor: the highest is drawn first
    highest = words.rate(most, 1) if unit == "B/s" else words.number(most)
    title = f"{html.escape(panel.title)}, at most {highest}"
    return f"<h3>{title}</h3>{_svg(_HEIGHT, shapes)}"


def _stacks(rows: Sequence[str], parts: Sequence[Part]) -> str:
    """Bars with their names above them."""
    most = max(sum(part.values[at] for part in parts) for at in range(len(rows))) or 1.0
    found = []
    for at, row in enumerate(rows):
        left, shapes = 0.0, []
        for part in parts:
            width = part.values[at] / most * _WIDTH
            if width:
                shapes.append(f'<rect class="s{part.colour}" x="{left:.1f}" width="{width:.1f}" height="{_BAR}"/>')
            left += width
        found.append(f"<h3>{html.escape(row)}</h3>{_svg(_BAR, shapes)}")
    return "".join(found)


def _svg(height: int, shapes: Sequence[str]) -> str:
    """Shapes that are drawn as wide as there is room."""
    box = f'viewBox="0 0 {_WIDTH} {height}" height="{height}"'
    return f'<svg {box} preserveAspectRatio="none" role="img">{"".join(shapes)}</svg>'


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 8]}…{text[-7:]}"


def _plain(text: str) -> str:
    """``text`` for plotly, which takes it for a kind of HTML."""
    return html.escape(text, quote=False)
