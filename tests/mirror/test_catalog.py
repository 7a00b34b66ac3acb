"""Which repositories a pattern means (H3), and that none is missing from a list (H4)."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from asyncrane.errors import Denied, Failure, NotFound, RegistryError, ServerFault, Unauthorized
from asyncrane.mirror import catalog
from asyncrane.mirror.lists import Lists
from asyncrane.mirror.rename import Template
from asyncrane.mirror.running import Running
from asyncrane.mirror.spec import MirrorSpec, Rule, SourcePattern
from asyncrane.mirror.wishes import gather
from asyncrane.oci.reference import Repository
from asyncrane.registry.tree import AT_ONCE
from asyncrane.server import Call, Handler, Reply
from asyncrane.session import Session
from asyncrane.testing import FaultyRegistry, Gate, delay, fault, status
from asyncrane.testing.images import Sample, random_image
from tests.promises.images import put, tags

IMAGE: Sample = random_image("catalog", layers=[100])


def fill(registry: FaultyRegistry, *names: str) -> None:
    for name in names:
        put(registry, name, IMAGE, "v1")


async def listed(source: SourcePattern) -> catalog.Repositories:
    async with Session(retries=1) as session:
        return await catalog.repositories(session, source)


def google_like(registry: FaultyRegistry, tree: Callable[[str], object]) -> None:
    """Let ``tree`` say what tags/list answers for a path."""

    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply.of_json(tree(call.route.repository))

    registry.faults.add(fault("tree", effect, kind="tags"))


async def test_a_whole_registry_is_mirrored_but_for_what_cannot_be_read(destination: FaultyRegistry) -> None:
    """H3: a catalog of 3 pages and 250 repositories, one 404 and one 403: 248 mirrored, 2 reported."""
    names = [f"team/app{number:03}" for number in range(250)]
    async with FaultyRegistry(page=100) as source:
        fill(source, *names, "other/app")
        source.faults.add(
            status(404, kind="tags", path="/team/app017/"), status(403, kind="tags", path="/team/app203/")
        )
        rule = Rule(
            line=1,
            source=SourcePattern(source.address, "team/**"),
            to=(Template.parse(f"{destination.address}/copy/{{path}}"),),
        )
        async with Session(retries=1) as session:
            gathered = await gather(session, MirrorSpec(rules=(rule,)))
            jobs = [wish.job(session.next_id()) for wish in gathered.wishes]
            await Lists(session).tell(jobs, gathered.listings)
            running = Running(session, jobs)
            await running.run()
        assert len(source.requests(kind="catalog")) == 3
    unreadable = {problem.repository.partition("/")[2]: problem.failure.status for problem in gathered.unreadable}
    assert unreadable == {"team/app017": 404, "team/app203": 403}
    expected = [name for name in names if name not in unreadable]
    assert len(expected) == 248
    assert sorted(tags(destination)) == [f"copy/{name}:v1" for name in expected]
    assert running.failed == 0


async def test_one_repository_or_a_list_of_names_asks_nobody(source: FaultyRegistry) -> None:
    assert (await listed(SourcePattern(source.address, "team/app"))).names == ("team/app",)
    given = SourcePattern(source.address, names=("team/b", "team/a", "team/b"))
    assert (await listed(given)).names == ("team/b", "team/a")
    assert len(source.log) == 0


async def test_the_catalog_is_filtered_by_glob_and_by_regular_expression(source: FaultyRegistry) -> None:
    fill(source, "team/app", "team/app/sub", "team/base", "teamwork/app", "app")
    assert (await listed(SourcePattern(source.address, "team/*"))).names == ("team/app", "team/base")
    assert (await listed(SourcePattern(source.address, regex=r"(team|teamwork)/a.*"))).names == (
        "team/app",
        "team/app/sub",
        "teamwork/app",
    )


async def test_a_name_that_is_none_is_reported(source: FaultyRegistry) -> None:
    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply.of_json({"repositories": ["team/app", "team/../../etc", "team/App", "team/app"]})

    source.faults.add(fault("odd", effect, kind="catalog"))
    found = await listed(SourcePattern(source.address, "team/**"))
    assert found.names == ("team/app",)
    assert [problem.repository for problem in found.problems] == [
        f"{source.address}/team/../../etc",
        f"{source.address}/team/App",
    ]


@pytest.mark.parametrize(
    ("code", "kind"), [(401, Unauthorized), (403, Denied), (404, NotFound), (405, RegistryError), (501, RegistryError)]
)
async def test_a_refused_catalog_says_what_to_do_instead(
    source: FaultyRegistry, code: int, kind: type[RegistryError]
) -> None:
    """As on Docker Hub, GHCR and ECR Public."""
    source.faults.add(status(code, kind="catalog"))
    with pytest.raises(kind, match=r"file: repositories\.txt") as refused:
        await listed(SourcePattern(source.address, "team/**"))
    assert refused.value.status == code
    assert "\n" not in str(refused.value)


async def test_a_page_for_people_is_no_catalog(source: FaultyRegistry) -> None:
    async def effect(call: Call, handler: Handler) -> Reply:
        return Reply(200, {"Content-Type": "text/html"}, b"<html>welcome</html>")

    source.faults.add(fault("welcome", effect, kind="catalog"))
    with pytest.raises(RegistryError, match=r"file: repositories\.txt"):
        await listed(SourcePattern(source.address, "**"))


async def test_a_catalog_that_breaks_off_is_an_error(source: FaultyRegistry) -> None:
    """H4: the second of three pages is not there."""
    async with FaultyRegistry(page=2) as paged:
        fill(paged, *(f"team/app{number}" for number in range(6)))
        paged.faults.add(status(500, kind="catalog", where=lambda call: bool(call.ask("last"))))
        with pytest.raises(ServerFault):
            await listed(SourcePattern(paged.address, "team/**"))


async def test_tags_are_complete_and_each_is_there_once(source: FaultyRegistry) -> None:
    """H4: with a registry whose ``last`` is part of the next page."""
    names = [f"v{number:04}" for number in range(1500)]

    async def effect(call: Call, handler: Handler) -> Reply:
        last = call.ask("last")
        start = names.index(last) if last else 0
        return Reply.of_json({"tags": names[start : start + 1000]})

    source.faults.add(fault("inclusive", effect, kind="tags"))
    async with Session() as session:
        assert await catalog.tags(session, Repository(source.address, "app")) == tuple(names)


async def test_children_are_walked_from_the_fixed_part_of_a_pattern() -> None:
    """H3: a registry like Google's; what the pattern cannot mean is not asked."""
    async with FaultyRegistry(google=True) as registry:
        fill(
            registry, "project/team/app", "project/team/app/deep/er", "project/team/base", "project/other/app", "z/app"
        )
        found = await listed(SourcePattern(registry.address, "project/team/**"))
        assert found == catalog.Repositories(("project/team/app", "project/team/app/deep/er", "project/team/base"))
        asked = {request.repository for request in registry.requests(kind="tags")}
        assert not asked & {"project", "project/other", "z"}
        registry.log.clear()
        assert (await listed(SourcePattern(registry.address, "project/*/app"))).names == (
            "project/other/app",
            "project/team/app",
        )
        asked = {request.repository for request in registry.requests(kind="tags")}
        assert "project/team/base" not in asked
        assert "project/team/app/deep" not in asked


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        (r"project/team/[ab].*", ("project/team/app", "project/team/base")),
        (r"project/te?am/app", ("project/team/app",)),
        (r"project/(?:team|other)/app", ("project/other/app", "project/team/app")),
        (r"^project/.*/app$", ("project/other/app", "project/team/app")),
    ],
)
async def test_children_are_walked_from_the_fixed_part_of_a_regular_expression(
    regex: str, expected: tuple[str, ...]
) -> None:
    async with FaultyRegistry(google=True) as registry:
        fill(registry, "project/team/app", "project/team/base", "project/other/app")
        assert (await listed(SourcePattern(registry.address, regex=regex))).names == expected


async def test_a_regular_expression_without_a_fixed_part_cannot_be_walked() -> None:
    async with FaultyRegistry(google=True) as registry:
        fill(registry, "project/team/app")
        with pytest.raises(RegistryError, match=r"file: repositories\.txt"):
            await listed(SourcePattern(registry.address, regex=r"project/team/app|other/.*"))


async def test_a_child_that_cannot_be_read_is_a_problem_and_not_the_end() -> None:
    """H3: nothing is known of what is below it either."""
    async with FaultyRegistry(google=True) as registry:
        fill(registry, "p/a", "p/b/c", "p/d/e")
        registry.faults.add(status(403, kind="tags", path="/p/b/tags"), status(404, kind="tags", path="/p/d/e/"))
        found = await listed(SourcePattern(registry.address, "p/**"))
    assert found.names == ("p/a",)
    assert [(problem.repository, problem.failure.status) for problem in found.problems] == [
        (f"{registry.address}/p/b/**", 403),
        (f"{registry.address}/p/d/e/**", 404),
    ]
    assert all(isinstance(problem.failure, Failure) for problem in found.problems)


async def test_nothing_at_the_top_is_an_error() -> None:
    async with FaultyRegistry(google=True) as registry:
        fill(registry, "p/a")
        with pytest.raises(RegistryError, match=r"file: repositories\.txt"):
            await listed(SourcePattern(registry.address, "nothing/**"))


@pytest.mark.parametrize("children", [["again"], ["one", "two"]])
async def test_children_without_end_are_a_problem(children: list[str]) -> None:
    """A registry that says the same whatever it is asked is not asked for ever."""
    async with FaultyRegistry(google=True) as registry:
        google_like(registry, lambda path: {"child": children, "manifest": {}, "tags": ["v1"]})
        found = await listed(SourcePattern(registry.address, "p/**"))
        assert len(registry.requests(kind="tags")) <= 35
    assert found.problems
    assert all("without end" in problem.failure.message for problem in found.problems)


async def test_children_that_change_from_level_to_level_end_as_well() -> None:
    async with FaultyRegistry(google=True) as registry:
        google_like(registry, lambda path: {"child": [f"d{path.count('/')}"], "tags": []})
        found = await listed(SourcePattern(registry.address, "p/**"))
    assert len(found.problems) == 1
    assert found.names == ()


async def test_a_child_that_is_no_name_is_not_asked() -> None:
    async with FaultyRegistry(google=True) as registry:
        google_like(registry, lambda path: {"child": ["../../x", "Up"] if path == "p" else [], "tags": ["v1"]})
        found = await listed(SourcePattern(registry.address, "p/**"))
        assert {request.repository for request in registry.requests(kind="tags")} == {"p"}
    assert [problem.failure.kind for problem in found.problems] == ["InvalidReference"] * 2


async def test_children_are_asked_some_at_a_time() -> None:
    async with FaultyRegistry(google=True) as registry:
        fill(registry, *(f"p/app{number:02}" for number in range(40)))
        gate = Gate()
        registry.faults.add(delay(gate, kind="tags", path="/p/app"))
        async with Session() as session, anyio.create_task_group() as tasks:
            tasks.start_soon(catalog.repositories, session, SourcePattern(registry.address, "p/**"))
            await gate.reached(AT_ONCE)
            gate.release()
        assert registry.log.peak("tags") == AT_ONCE
