"""What is attached to images goes along, whole, once, and wherever it is kept (promises F1-F5)."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from asyncrane import Outcome, Place, Session, Site
from asyncrane.engine.job import Job, Target
from asyncrane.oci.reference import Repository
from asyncrane.registry.referrers import fallback_tag
from asyncrane.server import Call, Handler, Reply
from asyncrane.testing import FaultyRegistry, Gate, delay, fault, no_referrers, redirect, status
from asyncrane.testing.images import random_image, random_index
from tests.mirror.attachments import attach, cosign, entry, listing, tree
from tests.promises.images import image, noise, put

APP = random_index("attached", layers=(500,))


async def copy(source: FaultyRegistry, destination: FaultyRegistry, *tags: str, session: Session) -> list[Outcome]:
    """Copy tags of ``app`` with all that is attached, all at once, the source's tags known."""
    place = Place(Site(source.address, mounts=True), "app")
    target = Place(Site(destination.address, mounts=True), "copy")
    session.source_listed(place, tuple(source.storage.index.tags("app")))
    outcomes: list[Outcome] = []

    async def one(tag: str) -> None:
        job = Job(session.next_id(), place, (Target(target, tag),), tag=tag, referrers=True)
        outcomes.append(await session.submit(job))

    async with anyio.create_task_group() as tasks:
        for tag in tags:
            tasks.start_soon(one, tag)
    return outcomes


async def copied(source: FaultyRegistry, destination: FaultyRegistry, *tags: str) -> list[str]:
    """The same in a session of its own; what became of each."""
    async with Session(retries=1) as session:
        return [outcome.targets[0].status for outcome in await copy(source, destination, *tags, session=session)]


def without_api(*registries: FaultyRegistry) -> None:
    for registry in registries:
        registry.faults.add(no_referrers())


@pytest.mark.parametrize("source_api", [True, False])
@pytest.mark.parametrize("destination_api", [True, False])
async def test_f1_the_tree_of_attachments_is_the_same_at_the_destination(
    source: FaultyRegistry, destination: FaultyRegistry, source_api: bool, destination_api: bool
) -> None:
    """Referrers and cosign's tags, of the index, of its children and of what is attached to these (F1)."""
    if not source_api:
        without_api(source)
    if not destination_api:
        without_api(destination)
    put(source, "app", APP, "1")
    child = APP.manifests[0]
    attach(source, "app", APP.manifest, "signature of the index", api=source_api)
    sbom = attach(source, "app", child, "sbom of a child", api=source_api)
    attach(source, "app", sbom.manifest, "signature of the sbom", api=source_api)
    cosign(source, "app", APP.digest, "sig", image("sig", [noise("sig", 100)]))
    attested = image("att", [noise("att", 100)])
    cosign(source, "app", child.digest, "att", attested)
    cosign(source, "app", attested.digest, "sig", image("sig of att", [noise("sig of att", 100)]))
    attach(source, "app", attested.manifest, "note about the attestation", api=source_api)
    assert await copied(source, destination, "1") == ["copied"]
    wanted = tree(source, "app", APP.digest, api=source_api)
    assert tree(destination, "copy", APP.digest, api=destination_api) == wanted
    assert str(wanted).count("sha256:") == 9


async def test_f2_hundreds_of_attachments_are_found_a_few_at_a_time_and_each_subject_is_asked_about_once(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """365 referrers with a signature each, never more than eight requests at once (F2)."""
    app = random_image("app", layers=(500,))
    put(source, "app", app, "1")
    for number in range(365):
        found = attach(source, "app", app.manifest, f"referrer {number}")
        attach(source, "app", found.manifest, f"signature of {number}")
    gate = Gate()
    source.faults.add(delay(gate, kind="referrers", after=1))

    async def release() -> None:
        await gate.reached(8)
        gate.release()

    async with Session(jobs=8) as session, anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        outcomes = await copy(source, destination, "1", session=session)
    assert outcomes[0].targets[0].referrers == 730
    asked = Counter(request.path for request in source.requests(kind="referrers"))
    assert (len(asked), set(asked.values())) == (731, {1})
    assert source.requests(kind="tags") == []
    assert source.log.peak() == 8
    assert destination.log.peak() <= 8
    assert tree(destination, "copy", app.digest) == tree(source, "app", app.digest)


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_f3_no_clear_answer_about_attachments_is_a_failure_and_no_tag(
    source: FaultyRegistry, destination: FaultyRegistry, code: int
) -> None:
    """A throttled or broken referrers API is not "no signatures" (F3)."""
    put(source, "app", APP, "1")
    attach(source, "app", APP.manifest, "signature")
    source.faults.add(status(code, headers={"Retry-After": "0"}, kind="referrers"))
    assert await copied(source, destination, "1") == ["failed"]
    assert destination.storage.index.tags("copy") == []


async def test_f3_where_the_api_is_a_web_page_the_fallback_tag_counts(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """GHCR redirects to HTML (F3)."""

    async def page(call: Call, handler: Handler) -> Reply:
        return Reply(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")

    source.faults.add(
        redirect("/packages", code=303, kind="referrers"), fault("page", page, path="/packages", kind="other")
    )
    put(source, "app", APP, "1")
    signature = attach(source, "app", APP.manifest, "signature", api=False)
    assert await copied(source, destination, "1") == ["copied"]
    assert destination.storage.index.referrers("copy", APP.digest) == [signature.digest]


async def test_f3_an_entry_of_a_list_for_something_deleted_since_does_not_hold_up_the_image(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """The indexes of fallback tags are kept by clients, and outlive what they name (F3)."""
    without_api(source)
    put(source, "app", APP, "1")
    gone = attach(source, "app", APP.manifest, "deleted", api=False)
    kept = attach(source, "app", APP.manifest, "kept", api=False)
    source.storage.delete_manifest("app", gone.digest)
    assert await copied(source, destination, "1") == ["copied"]
    assert destination.storage.index.referrers("copy", APP.digest) == [kept.digest]


async def test_f4_twenty_attachments_at_once_are_all_under_the_fallback_tag(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """Together with what was attached at the destination itself (F4)."""
    without_api(destination)
    put(source, "app", APP, "1")
    put(destination, "copy", APP)
    theirs = attach(destination, "copy", APP.manifest, "signed there", api=False)
    made = [attach(source, "app", APP.manifest, f"signature {number}") for number in range(20)]
    assert await copied(source, destination, "1") == ["copied"]
    index = destination.get_manifest("copy", fallback_tag(APP.digest))
    assert index is not None
    listed = [child.digest for child in index.children()]
    assert sorted(listed) == sorted([theirs.digest, *[sample.digest for sample in made]])


@pytest.mark.parametrize("api", [True, False])
async def test_f5_three_runs_leave_the_lists_of_attachments_as_the_first_made_them(
    source: FaultyRegistry, destination: FaultyRegistry, api: bool
) -> None:
    """Byte for byte, and the second and third write nothing at all (F5)."""
    if not api:
        without_api(destination)
    put(source, "app", APP, "1", "2")
    for number in range(5):
        attach(source, "app", APP.manifest, f"signature {number}")
    cosign(source, "app", APP.digest, "sig", image("sig", [noise("sig", 100)]))
    assert sorted(await copied(source, destination, "1", "2")) == ["copied", "tagged"]
    first = await lists(destination)
    assert len(first) == 1
    destination.log.clear()
    for _ in range(2):
        assert await copied(source, destination, "1", "2") == ["equal", "equal"]
        assert await lists(destination) == first
    assert {request.method for request in destination.log} <= {"HEAD", "GET"}


async def lists(registry: FaultyRegistry) -> set[bytes]:
    """The referrers of the index as the registry tells them, and as its fallback tag has them."""
    async with Session() as session:
        remote = session.remote(Repository(registry.address, "copy"))
        found = await remote.referrers(APP.digest)
    index = registry.get_manifest("copy", fallback_tag(APP.digest))
    return {index.body if index is not None else repr(found).encode()}


async def test_f5_what_a_list_names_wrongly_is_not_taken_along(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """False referrers are not multiplied (F5)."""
    without_api(source)
    other = random_image("other", layers=(500,))
    put(source, "app", APP, "1")
    put(source, "app", other)
    stray = attach(source, "app", other.manifest, "of something else")
    source.put_manifest("app", listing([entry(stray.manifest)]), fallback_tag(APP.digest))
    assert await copied(source, destination, "1") == ["copied"]
    assert destination.get_manifest("copy", str(stray.digest)) is None


async def test_f1_an_attachment_made_since_the_last_copy_of_the_session_goes_along(
    source: FaultyRegistry, destination: FaultyRegistry
) -> None:
    """A session that lives for long asks again (F1)."""
    put(source, "app", APP, "1")
    async with Session() as session:
        await copy(source, destination, "1", session=session)
        late = attach(source, "app", APP.manifest, "signed later")
        outcomes = await copy(source, destination, "1", session=session)
    assert outcomes[0].targets[0].status == "equal"
    assert destination.storage.index.referrers("copy", APP.digest) == [late.digest]
