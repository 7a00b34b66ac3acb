"""Layers merged are what a container sees (K6), whatever order a layer has things in."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrane.errors import ContentError
from tests.archive.overlay import Overlay, Unusable, contents, entry, layer, link, merge, names, overlay, symlink, tar

CASES = {
    "a whiteout hides what is below": ([layer("a", "b"), layer(".wh.a")], {"b": "b"}),
    "a whiteout before a file of its own layer leaves that": (
        [layer("a"), layer(".wh.a", "a", a="new")],
        {"a": "new"},
    ),
    "a whiteout behind a file of its own layer leaves that": (
        [layer("a"), layer("a", ".wh.a", a="new")],
        {"a": "new"},
    ),
    "a whiteout of a directory hides all in it, not what comes later (ggcr 2029, 2191)": (
        [layer("t/", "t/hello", "b"), layer(".wh.t"), layer("t/", "t/hello2")],
        {"t/hello2": "t/hello2", "b": "b"},
    ),
    "an opaque marker in front hides only what is below (ggcr 2372)": (
        [layer("d/", "d/old"), layer("d/", "d/.wh..wh..opq", "d/new")],
        {"d/new": "d/new"},
    ),
    "an opaque marker behind hides only what is below": (
        [layer("d/", "d/old", "d/new"), layer("d/", "d/new", "d/.wh..wh..opq", new="again")],
        {"d/new": "again"},
    ),
    "an opaque root": ([layer("a", "d/b"), layer(".wh..wh..opq", "c")], {"c": "c"}),
    "whiteouts in the only layer are not shown (ggcr 1623)": (
        [layer("a/.wh..wh..opq", ".wh.b", "a/x")],
        {"a/x": "a/x"},
    ),
    "a file in place of a directory": ([layer("d/x", "d/y"), layer("d", d="file")], {"d": "file"}),
    "a directory in place of a file": ([layer("d"), layer("d/", "d/x")], {"d/x": "d/x"}),
    "the last entry of a path wins in a layer": (
        [tar(entry("a", b"1"), entry("b", b"2"), entry("./a", b"3"))],
        {"a": "3", "b": "2"},
    ),
    "a file behind a directory in a layer": ([layer("d/", "d/x", "d", d="last")], {"d": "last"}),
    "a hard link outlives its target (ggcr 977)": (
        [layer("a", "b = a", "c = a"), layer(".wh.a")],
        {"b": "a", "c": "a"},
    ),
    "a hard link keeps what its target was (ggcr 2002)": (
        [layer("base"), layer("t1", "t2 = t1", "t3 = t1", t1="123"), layer("t1", t1="456")],
        {"base": "base", "t1": "456", "t2": "123", "t3": "123"},
    ),
    "a hard link to a lower layer": ([layer("a"), layer("b = a"), layer(".wh.a")], {"b": "a"}),
    "a hard link in front of its target": ([layer("b = a", "a")], {"a": "a", "b": "a"}),
    "a hard link to what its own layer hides": ([layer("d/a"), layer(".wh.d", "b = d/a")], {"b": "d/a"}),
    "a hard link whose target is absolute (moby/go-archive 99)": ([layer("a", "b = /a")], {"a": "a", "b": "a"}),
    "a hard link to a symbolic link": ([layer("a -> x", "b = a"), layer(".wh.a")], {"b": "-> x"}),
    "whiteouts that are hard links, as AUFS made them": (
        [layer("a", "b"), layer(".wh..wh.aufs", ".wh.a = .wh..wh.aufs", "c")],
        {"b": "b", "c": "c"},
    ),
    "files of many names, as AUFS kept them": (
        [layer(".wh..wh.plnk/", ".wh..wh.plnk/1.2", "a = .wh..wh.plnk/1.2", "b = .wh..wh.plnk/1.2")],
        {"a": ".wh..wh.plnk/1.2", "b": ".wh..wh.plnk/1.2"},
    ),
    "absolute targets of symbolic links are kept (ggcr 2238, 2279)": (
        [layer("sh -> /bin/dash", "up -> ../../etc/passwd")],
        {"sh": "-> /bin/dash", "up": "-> ../../etc/passwd"},
    ),
    "names are cleaned": (
        [tar(entry("./a", b"1"), entry("/b", b"2"), entry("c/../d", b"3"), entry("e//./f", b"4"))],
        {"a": "1", "b": "2", "d": "3", "e/f": "4"},
    ),
    "what is put below a symbolic link goes where that leads": (
        [layer("usr/lib/a", "lib -> usr/lib"), layer("lib/b", "lib/.wh.a")],
        {"usr/lib/b": "lib/b", "lib": "-> usr/lib"},
    ),
    "a symbolic link leads nowhere above the root": (
        [layer("out -> ../../..", "abs -> /"), layer("out/x", "abs/y")],
        {"out": "-> ../../..", "abs": "-> /", "x": "out/x", "y": "abs/y"},
    ),
    "a directory in place of a symbolic link is not where that led": (
        [layer("usr/lib/a", "lib -> usr/lib"), layer("lib/", "lib/.wh..wh..opq", "lib/.wh.a", "lib/b")],
        {"usr/lib/a": "usr/lib/a", "lib/b": "lib/b"},
    ),
    "no layers at all": ([], {}),
    "an empty layer": ([tar(), b"", layer("a")], {"a": "a"}),
}


@pytest.mark.parametrize("case", CASES)
def test_k6_a_merged_image_has_exactly_what_a_container_sees(case: str) -> None:
    """K6: also in the eyes of an overlay that was written twice."""
    layers, expected = CASES[case]
    made = merge(*layers)
    assert contents(made) == expected
    assert overlay([made]) == overlay(layers)
    assert not [name for name in names(made) if ".wh." in name]
    assert len(names(made)) == len(set(names(made)))
    listed = subprocess.run(["tar", "-t"], input=made, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert (listed.stdout.decode().splitlines(), listed.stderr) == (names(made), b"")


REFUSED = {
    "leads out": [tar(entry("../x", b""))],
    "leads out of": [tar(entry("a/../../x", b""))],
    "'/../x' leads": [tar(entry("/../x", b""))],
    "hard link that cannot be used": [tar(entry("a", b""), link("b", "../a"))],
    "which is not there": [layer("a"), layer("b = nothing")],
    "which is a directory": [layer("d/", "b = d")],
    "round in symbolic links": [layer("a -> b", "b -> a", "a/x")],
    "a whiteout of nothing": [layer(".wh..")],
    "whiteout of nothing: 'd/": [layer("d/.wh...")],
    "root that is no directory": [layer("./. -> x")],
}


@pytest.mark.parametrize("words", REFUSED)
def test_k6_what_leads_out_or_nowhere_is_refused(words: str) -> None:
    """K6: nothing in a name or a link target escapes."""
    with pytest.raises(ContentError, match=words) as raised:
        merge(*REFUSED[words])
    assert str(raised.value).startswith("layer ")
    assert "\n" not in str(raised.value)


def test_directories_are_merged_under_their_newest_entry_which_comes_first() -> None:
    """A directory is there once, before all in it, from whatever layers that is."""
    lower = tar(entry("d/", mode=0o700, uid=1), entry("d/e/", mode=0o711), entry("d/e/a", b"a"))
    upper = tar(entry("d/b", b"b"), entry("d/", mode=0o755, uid=7, mtime=99), entry("f/", mode=0o1777))
    made = merge(lower, upper)
    assert names(made) == ["d/", "d/e/", "d/e/a", "d/b", "f/"]
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        found = {member.name: (member.mode, member.uid, member.mtime) for member in archive}
    assert found["d"] == (0o755, 7, 99)
    assert found["d/e"] == (0o711, 0, 1_600_000_000)
    assert found["f"][0] == 0o1777


def test_the_root_has_its_newest_entry() -> None:
    made = merge(tar(entry("./", mode=0o700), entry("./a", b"")), tar(entry("./", mode=0o711)))
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        assert [(member.name, member.mode) for member in archive] == [(".", 0o711), ("a", 0o644)]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_everything_a_header_says_comes_out_again(kind: int) -> None:
    """Owners, modes, times, devices, extended attributes, names of any length, renamed or not."""
    pax = kind == tarfile.PAX_FORMAT
    long = "d/" * 20 + "x" * (90 if kind == tarfile.USTAR_FORMAT else 200)
    attributes = {"SCHILY.xattr.security.capability": "\x01\x00\x02", "SCHILY.xattr.user.a": "v=1\n"} if pax else {}
    layers = [
        tar(
            entry("./a", b"a", mode=0o4755, uid=2_000_000 if not pax else 3_000_000_000, uname="me", gname="us"),
            entry("./b", b"b", mtime=1_600_000_000.25 if pax else 5, pax_headers=attributes),
            entry(long, b"long"),
            entry(f"./{long}2", b"long too"),
            link("./same", "./b" if kind == tarfile.USTAR_FORMAT else long),
            symlink("./s", "t" * 90),
            entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            entry("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=1),
            entry("pipe", type=tarfile.FIFOTYPE),
            entry("naïve ☂", "é".encode()),
            kind=kind,
        ),
        tar(entry(f".wh.{'y' * 20}", b""), kind=kind),
    ]
    made = merge(*layers)
    assert overlay([made]) == overlay(layers)
    assert names(made)[0] == "a"


def test_what_a_global_header_says_is_said_of_its_own_layer_only() -> None:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uname": "all", "comment": "x"}
    ) as t:
        for info, content in (entry("a", b"a"), entry("b", b"b", pax_headers={"uname": "own"})):
            t.addfile(info, io.BytesIO(content))
    layers = [out.getvalue(), layer("c")]
    made = merge(*layers)
    assert overlay([made]) == overlay(layers)
    assert {path: file[1]["names"][0] for path, file in overlay([made]).items()} == {"a": "all", "b": "own", "c": ""}


def test_the_same_layers_give_the_same_bytes_and_merging_again_changes_nothing() -> None:
    """K5."""
    layers = CASES["a hard link keeps what its target was (ggcr 2002)"][0]
    once = merge(*layers)
    assert merge(*layers) == once
    assert merge(once) == once


NAMES = st.sampled_from(["a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "b/c/a", "./a", "/b", "c/c/c"])
TARGETS = st.sampled_from(["a", "b", "/a", "../b", "a/b", "/", "..", "c/c", "nowhere"])
ENTRIES = st.one_of(
    st.tuples(st.just("file"), NAMES, st.sampled_from([0o600, 0o755])),
    st.tuples(st.just("directory"), NAMES, st.sampled_from([0o700, 0o755])),
    st.tuples(st.just("symlink"), NAMES, TARGETS),
    st.tuples(st.just("link"), NAMES, NAMES),
    st.tuples(st.just("pipe"), NAMES, st.just("")),
    st.tuples(st.just("whiteout"), NAMES, st.just("")),
    st.tuples(st.just("opaque"), NAMES, st.just("")),
)
FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])


def drawn(number: int, kind: str, name: str, more: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One of ``ENTRIES``, by its number, which is its content."""
    parent, _, base = name.rpartition("/")
    match kind:
        case "file":
            return entry(name, b"%d" % number, mode=more)
        case "directory":
            return entry(f"{name}/", mode=more)
        case "symlink":
            return symlink(name, more)
        case "link":
            return link(name, more)
        case "pipe":
            return entry(name, type=tarfile.FIFOTYPE)
        case "whiteout":
            return entry(f"{parent}/.wh.{base}", b"")
    return entry(f"{name}/.wh..wh..opq", b"")


@settings(max_examples=150)
@given(st.lists(st.tuples(st.lists(ENTRIES, max_size=8), FORMATS), max_size=4))
def test_k6_any_stack_of_layers_is_merged_as_the_reference_does(stack: list[tuple[list[Any], int]]) -> None:
    """K6: or refused where that refuses it."""
    layers = [tar(*(drawn(n, *e) for n, e in enumerate(entries)), kind=kind) for entries, kind in stack]
    reference = Overlay()
    try:
        for content in layers:
            reference.apply(content)
    except Unusable:
        with pytest.raises(ContentError):
            merge(*layers)
        return
    made = merge(*layers)
    assert overlay([made]) == reference.described()
    parents: set[str] = set()
    for name in names(made):
        assert name not in parents, "a directory comes after something in it, or twice"
        parents |= {name, *(f"{name[:at]}/" for at, char in enumerate(name) if char == "/")}
