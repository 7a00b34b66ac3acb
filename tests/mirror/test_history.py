"""What happened in a run, and taking it back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from functools import partial

import anyio
import pytest

from asyncrane import Explanation, Journal, JournalError, Restored, Session, explain, rollback
from asyncrane.oci.digest import Digest
from asyncrane.server import Call
from asyncrane.testing import Fault, Gate, cut_response, faults
from tests.mirror.runs import Mirror, fleet
from tests.promises.images import image, noise, put, tags

TREE = "{from: 'A/team/**', to: ['B/copy/{path}']}"


def told(mirror: Mirror, run: int, subject: str) -> Explanation:
    with contextlib.closing(Journal.read(mirror.journal)) as journal:
        return explain(journal, run, subject)


async def taken_back(mirror: Mirror, run: int, *, delete_created: bool = False) -> list[Restored]:
    with contextlib.closing(Journal.open(mirror.journal)) as journal:
        async with Session() as session:
            return await rollback(session, journal, run, delete_created=delete_created)


async def test_a_blob_says_where_it_came_from_where_it_went_and_for_whom(mirror: Mirror) -> None:
    shared = noise("shared", 5000)
    put(mirror.source, "team/one", image("one", [shared]), "v1")
    put(mirror.source, "team/two", image("two", [shared]), "v1")
    mirror.rules(TREE)
    run = (await mirror.apply()).run
    story = told(mirror, run, str(Digest.of(shared)))
    text = "\n".join(step.text for step in story.steps)
    assert "reading 5000 bytes from" in text
    assert ": sent" in text
    assert "mounted: no bytes sent" in text
    assert [step.at for step in story.steps] == sorted(step.at for step in story.steps)
    assert sorted(line.partition(" -> ")[0].partition("/")[2] for line in story.images) == [
        "team/one:v1",
        "team/two:v1",
    ]


async def test_a_tag_says_what_it_named_and_what_became_of_it(mirror: Mirror) -> None:
    old = image("old", [noise(1, 100)])
    put(mirror.destination, "copy/team/app", old, "v1")
    put(mirror.source, "team/app", image("new", [noise(2, 100)]), "v1")
    mirror.rules(TREE)
    run = (await mirror.apply()).run
    for subject in (f"{mirror.destination.address}/copy/team/app:v1", "team/app:v1"):
        story = told(mirror, run, subject)
        text = "\n".join(step.text for step in story.steps)
        assert f"it has {old.digest}" in text
        assert "writing sha256:" in text
        assert any(f"copied (before: {old.digest})" in line for line in story.images)


async def test_a_failure_says_what_was_tried(mirror: Mirror) -> None:
    sample = image("broken", [noise(1, 5000)])
    put(mirror.source, "team/app", sample, "v1")
    layer = sample.manifest.blobs()[0].digest
    mirror.source.storage.unlink("team/app", layer)
    mirror.rules(TREE)
    run = (await mirror.apply()).run
    story = told(mirror, run, str(layer))
    assert any("failed: " in step.text and "404" in step.text for step in story.steps)
    assert told(mirror, run, "team/app:v1").images[0].startswith(f"{mirror.source.address}/team/app:v1 -> ")


async def test_what_is_not_in_the_run_is_an_error_that_says_so(mirror: Mirror) -> None:
    fleet(mirror.source, repositories=1, versions=1)
    mirror.rules(TREE)
    run = (await mirror.apply()).run
    with pytest.raises(JournalError, match=r"^run 1: nothing about no/such:tag$"):
        told(mirror, run, "no/such:tag")
    with pytest.raises(JournalError, match="7"):
        told(mirror, 7, "team/app0:v0")


async def test_a_run_is_taken_back_tag_by_tag(mirror: Mirror) -> None:
    """Moved tags name again what they named; new ones stay unless asked; what somebody moved since is theirs."""
    before, after, later = (image(name, [noise(name, 100)]) for name in ("before", "after", "later"))
    for name in ("moved", "since", "same"):
        put(mirror.destination, f"copy/team/{name}", before, "v1")
        put(mirror.source, f"team/{name}", before if name == "same" else after, "v1")
    put(mirror.source, "team/new", after, "v1")
    mirror.rules(TREE)
    run = (await mirror.apply()).run
    put(mirror.destination, "copy/team/since", later, "v1")
    done = {one.destination.partition("/")[2]: one for one in await taken_back(mirror, run)}
    assert {name: one.fate for name, one in done.items()} == {
        "copy/team/moved:v1": "restored",
        "copy/team/since:v1": "moved-since",
        "copy/team/new:v1": "kept",
    }
    assert tags(mirror.destination) == {
        "copy/team/moved:v1": str(before.digest),
        "copy/team/since:v1": str(later.digest),
        "copy/team/new:v1": str(after.digest),
        "copy/team/same:v1": str(before.digest),
    }
    again = await taken_back(mirror, run, delete_created=True)
    assert {one.destination.partition("/")[2]: one.fate for one in again} == {
        "copy/team/moved:v1": "restored",
        "copy/team/since:v1": "moved-since",
        "copy/team/new:v1": "deleted",
    }
    assert "copy/team/new:v1" not in tags(mirror.destination)


async def test_a_tag_that_cannot_be_put_back_is_reported_and_the_others_are(mirror: Mirror) -> None:
    for name in ("a", "b"):
        put(mirror.destination, f"copy/team/{name}", image("before", [noise(1, 100)]), "v1")
        put(mirror.source, f"team/{name}", image("after", [noise(2, 100)]), "v1")
    mirror.rules(TREE)
    run = (await mirror.apply()).run
    mirror.destination.faults.add(faults.status(403, error="DENIED", kind="manifest-put", path="/team/a/"))
    done = {one.destination.partition("/")[2]: one for one in await taken_back(mirror, run)}
    assert (done["copy/team/a:v1"].fate, done["copy/team/b:v1"].fate) == ("failed", "restored")
    assert done["copy/team/a:v1"].failure is not None
    assert done["copy/team/a:v1"].failure.kind == "Denied"


@pytest.mark.parametrize("by_tag", [True, False], ids=["deletes-tags", "deletes-digests"])
async def test_what_a_run_pruned_comes_back_where_it_still_is(mirror: Mirror, by_tag: bool) -> None:
    """A registry that deletes a tag keeps its manifest; one that knows digests only has nothing left to put back."""
    gone, kept = image("gone", [noise(1, 100)]), image("kept", [noise(2, 100)])
    put(mirror.source, "app", kept, "v2")
    put(mirror.destination, "copy", gone, "v1")
    mirror.rules("{from: A/app, to: [B/copy], prune: {enabled: true, max: 1}}")
    if not by_tag:
        mirror.destination.faults.add(faults.status(405, kind="manifest-delete", path="/v1$"))
    report = await mirror.apply()
    assert [deleted.digest for deleted in report.deleted] == [str(gone.digest)]
    assert tags(mirror.destination) == {"copy:v2": str(kept.digest)}
    done = {one.destination.partition("/")[2]: one for one in await taken_back(mirror, report.run)}
    assert done.pop("copy:v2").fate == "kept"
    assert [one.fate for one in done.values()] == ["restored" if by_tag else "failed"]
    now = {"copy:v2": str(kept.digest), **({"copy:v1": str(gone.digest)} if by_tag else {})}
    assert tags(mirror.destination) == now


async def test_what_a_run_pruned_until_it_was_stopped_is_known(mirror: Mirror) -> None:
    """Also after it was resumed, which prunes nothing more."""
    put(mirror.source, "app", image("kept", [noise(0, 100)]), "v3")
    for number in (1, 2):
        put(mirror.destination, "copy", image(number, [noise(number, 100)]), f"v{number}")
    before = tags(mirror.destination)
    mirror.rules("{from: A/app, to: [B/copy], prune: {enabled: true, max: 100%}}")
    gate = Gate()
    held = mirror.destination.faults.add(faults.delay(gate, kind="manifest-delete", after=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mirror.apply)
        await gate.reached()
        tasks.cancel_scope.cancel()
    mirror.destination.faults.remove(held)
    assert len(tags(mirror.destination)) == 2
    assert len((await mirror.resume(1)).deleted) == 1
    done = await taken_back(mirror, 1, delete_created=True)
    assert sorted(one.fate for one in done) == ["deleted", "restored"]
    assert tags(mirror.destination) == before


async def test_new_tags_go_where_only_images_can_be_deleted_and_take_no_other_along(mirror: Mirror) -> None:
    """As distribution 2.8 has it: two new tags of one image go with it, one that shares its image with an old tag
    stays, and that is told.
    """
    new, known = image("new", [noise(1, 100)]), image("known", [noise(2, 100)])
    put(mirror.source, "team/app", new, "v1", "v1.0")
    put(mirror.source, "team/app", known, "v2")
    put(mirror.destination, "copy/team/app", known, "theirs")
    mirror.rules(TREE)
    run = (await mirror.apply()).run
    refusal = faults.status(400, error="DIGEST_INVALID", kind="manifest-delete", where=lambda c: not c.route.by_digest)
    mirror.destination.faults.add(refusal)
    done = {one.destination.rpartition(":")[2]: one for one in await taken_back(mirror, run, delete_created=True)}
    assert {tag: one.fate for tag, one in done.items()} == {"v1": "deleted", "v1.0": "deleted", "v2": "failed"}
    assert done["v2"].failure is not None
    assert "theirs names the same image" in done["v2"].failure.message
    assert tags(mirror.destination) == dict.fromkeys(["copy/team/app:theirs", "copy/team/app:v2"], str(known.digest))


@pytest.mark.parametrize(
    ("kind", "fault", "why"),
    [
        ("blob-get", partial(faults.status, 500), "500 Internal Server Error"),
        ("blob-get", partial(cut_response, 1_500_000), "the connection broke|ended at|closed"),
        ("upload-put", partial(faults.status, 503), "503 Service Unavailable"),
        ("manifest-put", partial(faults.status, 502), "502 Bad Gateway"),
    ],
    ids=["read", "read-on", "sent", "written"],
)
async def test_what_was_tried_again_says_so_and_why(
    mirror: Mirror, kind: str, fault: Callable[..., Fault], why: str
) -> None:
    """By the registry's own words; what was done at the first attempt says nothing."""
    sample = image("again", [noise(1, 3_000_000)])
    put(mirror.source, "team/app", sample, "v1")
    layer = sample.manifest.layers()[0].digest
    registry = mirror.source if kind == "blob-get" else mirror.destination

    def strikes(call: Call) -> bool:
        return call.route.kind == "manifest-put" or str(layer) in (call.route.identifier, call.ask("digest"))

    registry.faults.add(fault(kind=kind, where=strikes, times=1))
    mirror.rules(TREE)
    run = (await mirror.apply()).run
    subjects = ("team/app:v1", str(layer)) if kind == "manifest-put" else (str(layer), "team/app:v1")
    again = [[step.text for step in told(mirror, run, s).steps if "tried again: " in step.text] for s in subjects]
    assert [len(texts) for texts in again] == [1, 0]
    assert re.search(f"^tried again: (GET|PUT) http://{registry.address}/v2/.*({why})", again[0][0])
