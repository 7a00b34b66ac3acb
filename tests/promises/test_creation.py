"""Repositories that have to exist before anything is pushed to them (H7)."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from asyncrane import Pair
from asyncrane.errors import Denied, NotFound, RegistryError
from asyncrane.registry.creation import Creations, EcrRepository, means_missing
from asyncrane.server.call import Call, Handler
from asyncrane.server.refusal import error_reply
from asyncrane.server.reply import Reply
from asyncrane.testing import Fault, FaultyRegistry, fault
from asyncrane.testing.images import random_image
from asyncrane.transport.options import OnMissing, RegistryOptions
from tests.promises.images import incomplete, one, put, run, tags
from tests.transport.server import Server

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
MISSING = NotFound("POST: 404", status=404, codes=("NAME_UNKNOWN",))
PUSHES = ("mount", "upload-post", "manifest-put")

CREATE = """
import os, sys
_, file, registry, repository = sys.argv
assert (os.environ["ASYNCRANE_REGISTRY"], os.environ["ASYNCRANE_REPOSITORY"]) == (registry, repository)
with open(file, "a") as log:
    log.write(repository + "\\n")
"""
FAIL = """
import sys
with open(sys.argv[1], "a") as log:
    log.write(sys.argv[3] + "\\n")
sys.exit("quota exceeded: no more repositories")
"""


@pytest.fixture
def created(tmp_path: Path) -> Path:
    """What the command was called for, line by line."""
    file = tmp_path / "created"
    file.touch()
    return file


def command(script: str, file: Path) -> tuple[str, ...]:
    return (sys.executable, "-c", script, str(file), "{registry}", "{repository}")


def names(file: Path) -> list[str]:
    return file.read_text().split()


def add(file: Path, name: str) -> None:
    file.write_text(f"{name}\n")


def must_exist(file: Path, code: int = 404, error: str = "NAME_UNKNOWN") -> Fault:
    """As at ECR: pushes to a repository that nobody created are refused."""

    async def refuse(call: Call, handler: Handler) -> Reply:
        if call.route.repository in names(file):
            return await handler(call)
        text = f"The repository with name '{call.route.repository}' does not exist in the registry"
        return error_reply(code, error, text)

    return fault("must_exist", refuse, kind=PUSHES)


@pytest.mark.parametrize(("code", "error"), [(404, "NAME_UNKNOWN"), (404, "UNKNOWN"), (403, "DENIED")])
async def test_h7_a_command_creates_each_repository_once(
    source: FaultyRegistry, destination: FaultyRegistry, created: Path, code: int, error: str
) -> None:
    """H7: under concurrency, also where the first request is a mount; whoever came meanwhile goes on."""
    destination.faults.add(must_exist(created, code, error))
    pairs = []
    for repository in ("a", "team/b"):
        for tag in range(6):
            put(source, repository, random_image(f"{repository}/{tag}", layers=(500, 300_000)), f"v{tag}")
        pairs.append(Pair(f"{source.address}/{repository}", (f"{destination.address}/{repository}",)))
    pairs.append(Pair(f"{source.address}/a", (f"{destination.address}/copy",)))
    options = RegistryOptions(on_missing=command(CREATE, created))
    outcomes, done = await run(pairs, all_tags=True, registries={destination.address: options})
    assert [o.failure for o in outcomes if o.failure] == []
    assert sorted(names(created)) == ["a", "copy", "team/b"]
    assert incomplete(destination) == []
    assert len(tags(destination)) == 18
    assert done.bytes_mounted >= 6 * 300_500, "what another repository has is mounted, not sent again"


async def test_h7_without_a_rule_it_is_an_error(
    source: FaultyRegistry, destination: FaultyRegistry, created: Path
) -> None:
    destination.faults.add(must_exist(created))
    outcome, _ = await one(put(source, "a", random_image("a"), "v1"), f"{destination.address}/a:v1")
    assert outcome.failure is not None
    assert outcome.failure.codes == ("NAME_UNKNOWN",)


async def test_h7_a_command_that_fails_is_quoted_and_run_once(
    source: FaultyRegistry, destination: FaultyRegistry, created: Path, tmp_path: Path
) -> None:
    """H7: other repositories go on."""
    destination.faults.add(must_exist(created))
    add(created, "there")
    asked = tmp_path / "asked"
    images = [put(source, name, random_image(name, layers=(1, 2, 3)), "v1") for name in ("there", "missing")]
    options = RegistryOptions(on_missing=command(FAIL, asked))
    pairs = [Pair(n, (n.replace(source.address, destination.address),)) for n in images]
    outcomes, _ = await run(pairs, registries={destination.address: options})
    assert names(asked) == ["missing"]
    failures = {o.source.partition("/")[2]: o.failure for o in outcomes}
    assert failures["there:v1"] is None
    failure = failures["missing:v1"]
    assert failure is not None
    assert failure.kind == "NotFound"
    assert f"{destination.address}/missing: the repository does not exist, and " in failure.message
    assert "failed to create it (exit 1): quota exceeded: no more repositories" in failure.message


async def test_h7_create_is_not_for_registries_we_do_not_know(
    source: FaultyRegistry, destination: FaultyRegistry, created: Path
) -> None:
    destination.faults.add(must_exist(created))
    options = {destination.address: RegistryOptions(on_missing="create")}
    outcome, _ = await one(put(source, "a", random_image("a"), "v1"), f"{destination.address}/a:v1", registries=options)
    assert outcome.failure is not None
    assert "on_missing_repository: {command: [...]}" in outcome.failure.message


async def test_h7_a_command_that_takes_too_long_is_killed_and_one_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match=r"sleep took more than 0\.2 s to create it and was killed$"):
        await Creations("r", ("sleep", "60"), limit=0.2)("a", MISSING)
    with pytest.raises(NotFound, match=r"^r/a: .*no-such-program cannot be run: No such file or directory$"):
        await Creations("r", ("no-such-program",))("a", MISSING)


async def test_h7_one_creation_for_all_who_wait_and_the_next_takes_over_from_the_cancelled(created: Path) -> None:
    slow = "import time; time.sleep(0.3)\n" + CREATE
    creations = Creations("r", command(slow, created))
    answers: list[bool] = []

    async def ask(scope: anyio.CancelScope | None = None) -> None:
        with scope or anyio.CancelScope():
            answers.append(await creations("a", MISSING))

    cancelled = anyio.CancelScope(deadline=anyio.current_time() + 0.1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, cancelled)
        for _ in range(20):
            tasks.start_soon(ask)
    assert cancelled.cancelled_caught
    assert answers == [True] * 20
    assert names(created) == ["a"]


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (MISSING, True),
        (NotFound("POST: 404", status=404), True),
        (NotFound("PUT: 404", status=404, codes=("MANIFEST_BLOB_UNKNOWN",)), False),
        (RegistryError("POST: 400", status=400, codes=("NAME_UNKNOWN",)), True),
        (Denied("POST: 403 Forbidden: The repository with name 'a' does not exist", status=403), True),
        (Denied("POST: 403 Forbidden: project a not found", status=403), True),
        (Denied("POST: 403 Forbidden: DENIED: you may not push", status=403, codes=("DENIED",)), False),
    ],
)
def test_h7_what_says_that_a_repository_is_missing(error: RegistryError, missing: bool) -> None:
    assert means_missing(error) is missing


# ECR


@pytest.mark.parametrize(
    ("registry", "service", "region", "name"),
    [
        (ECR, "ecr", "eu-west-1", "team/app"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "ecr", "us-gov-west-1", "team/app"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "ecr", "cn-north-1", "team/app"),
        ("123456789012.dkr-ecr.us-west-2.on.aws", "ecr", "us-west-2", "team/app"),
        ("public.ecr.aws", "ecr-public", "us-east-1", "app"),
    ],
)
def test_h7_ecr_by_its_names(registry: str, service: str, region: str, name: str) -> None:
    found = EcrRepository.of(registry, "team/app")
    assert (found.service, found.region, found.arguments["repositoryName"]) == (service, region, name)
    assert found.arguments.get("registryId", "123456789012") == "123456789012"


class Aws:
    """As much of ECR's API as there is to create repositories."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.refusal = ""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.calls.append((request.headers["X-Amz-Target"], json.loads(await request.read())))
        if self.refusal:
            return web.json_response({"__type": self.refusal, "message": "because"}, status=400)
        return web.json_response({"repository": {}}, content_type="application/x-amz-json-1.1")


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Aws]:
    pytest.importorskip("botocore", reason="botocore is not installed (asyncrane[aws])")
    api = Aws()
    server = Server(api)
    await server.start()
    for name in ("AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL_ECR_PUBLIC"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield api
    await server.stop()


@pytest.mark.parametrize(
    ("registry", "target", "arguments"),
    [
        (
            ECR,
            "AmazonEC2ContainerRegistry_V20150921.CreateRepository",
            {"registryId": "123456789012", "repositoryName": "team/app"},
        ),
        ("public.ecr.aws", "SpencerFrontendService.CreateRepository", {"repositoryName": "app"}),
    ],
)
async def test_h7_ecr_is_asked_to_create_it_once(
    aws: Aws, registry: str, target: str, arguments: dict[str, str]
) -> None:
    creations = Creations(registry, "create")
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(creations, "team/app", MISSING)
    assert await creations("team/app", MISSING)
    assert aws.calls == [(target, arguments)]


async def test_h7_that_it_exists_already_is_fine_at_ecr(aws: Aws) -> None:
    aws.refusal = "RepositoryAlreadyExistsException"
    assert await Creations(ECR, "create")("team/app", MISSING)


async def test_h7_what_ecr_says_against_it_is_the_error(aws: Aws) -> None:
    aws.refusal = "AccessDeniedException"
    creations = Creations(ECR, "create")
    for _ in range(3):
        with pytest.raises(NotFound, match=r"and ECR does not create it: .*\(AccessDeniedException\).*: because"):
            await creations("team/app", MISSING)
    assert len(aws.calls) == 1


async def test_h7_without_botocore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(NotFound, match=r"pip install 'asyncrane\[aws\]'$"):
        await Creations(ECR, "create")("team/app", MISSING)


@pytest.mark.parametrize("how", ["fail", "create"])
async def test_h7_other_refusals_are_left_alone(how: OnMissing, aws: Aws) -> None:
    assert not await Creations(ECR, how)("team/app", Denied("403: may not", status=403, codes=("DENIED",)))
    assert aws.calls == []
