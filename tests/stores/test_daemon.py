"""A container engine is a Source of what it saves and a Sink of what it loads, and says so when it is not."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trustme

from asyncrane import Session, copy
from asyncrane.errors import (
    AsyncraneError,
    ConnectFailed,
    ContentError,
    Interrupted,
    InvalidInput,
    InvalidReference,
    NotFound,
    RegistryError,
    UnsupportedManifest,
)
from asyncrane.oci.digest import Digest
from asyncrane.server import DiskStorage
from asyncrane.stores.daemon import DaemonSink, full_name, open_daemon
from asyncrane.stores.tarball_reading import ArchiveSource
from asyncrane.testing import FaultyRegistry
from asyncrane.testing.checks import check_sink, check_source
from asyncrane.testing.images import Sample, random_image, random_index, reader
from tests.cli.conftest import Program
from tests.peers import require
from tests.promises.images import incomplete, put
from tests.stores.docker_engine import Engine, Kept, running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "engine").mkdir()
    return tmp_path / "engine"


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine(folder)


@pytest.fixture
async def environ(engine: Engine, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    async with running(engine, tmp_path / "docker.sock") as host:
        yield {"DOCKER_HOST": host}


async def load(environ: dict[str, str], name: str, made: Sample, *, error: Exception | None = None) -> None:
    async with open_daemon(name, writing=True, environ=environ) as sink:
        assert isinstance(sink, DaemonSink)
        for digest, content in made.blobs.items():
            await sink.put(made.blob(digest), reader(content))
        for manifest in made.manifests:
            await sink.publish(manifest)
        if error is not None:
            raise error


def image_id(made: Sample) -> str:
    config = made.manifest.config()
    assert config is not None
    return str(config.digest)


async def test_what_is_loaded_is_there_and_can_be_saved_again(engine: Engine, environ: dict[str, str]) -> None:
    """Layers come back unpacked, as docker keeps them: the config, and so the image's ID, is the same."""
    made = random_image("app")
    await load(environ, "app:dev", made)
    assert engine.names == {"docker.io/library/app:dev": image_id(made)}
    async with open_daemon("app:dev", writing=False, environ=environ) as source:
        assert isinstance(source, ArchiveSource)
        found = await source.manifest((await source.sole()).digest)
        assert found.config() == made.manifest.config() or str(found.config().digest) == image_id(made)  # type: ignore[union-attr]
        assert source.place.site.name == "docker-daemon:app:dev"
        await check_source(source, tag="app:dev", manifest=found)
    assert engine.requests.count("GET /v1.44/images/get") == 1, "saved once, however often it is read (J8)"
    async with open_daemon(image_id(made), writing=False, environ=environ) as source:
        assert isinstance(source, ArchiveSource)
        assert (await source.sole()).digest == found.digest


async def test_it_is_a_sink(engine: Engine, environ: dict[str, str]) -> None:
    async with open_daemon("app", writing=True, environ=environ) as sink:
        assert isinstance(sink, DaemonSink)
        made = await check_sink(sink)
    assert engine.names["docker.io/library/app:latest"] == image_id(made)


async def test_nothing_is_loaded_when_nothing_came_or_something_failed(engine: Engine, environ: dict[str, str]) -> None:
    async with open_daemon("app:1", writing=True, environ=environ):
        pass
    with pytest.raises(ContentError, match="gave up"):
        await load(environ, "app:1", random_image("app"), error=ContentError("somebody gave up"))
    assert engine.images == {}
    assert not [request for request in engine.requests if request.endswith("load")]


async def test_an_engine_takes_one_image(engine: Engine, environ: dict[str, str]) -> None:
    with pytest.raises(UnsupportedManifest, match="docker-daemon:app:1 takes one image: choose a platform"):
        await load(environ, "app:1", random_index("app"))
    assert engine.images == {}


async def test_of_an_index_an_engine_gets_one_image(
    engine: Engine, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one for linux/amd64, as ``docker pull`` there; nothing of the others is read."""
    monkeypatch.setenv("DOCKER_HOST", environ["DOCKER_HOST"])
    made = random_index("app")
    chosen = made.manifests[0]
    async with FaultyRegistry() as registry, Session() as session:
        outcome = await copy(session, put(registry, "app", made, "1"), "docker-daemon:app:1")
        read = {request.digest for request in registry.requests(kind="blob-get")}
    assert read == {str(blob.digest) for blob in chosen.blobs()}
    assert engine.names == {"docker.io/library/app:1": str(chosen.config().digest)}  # type: ignore[union-attr]
    assert outcome.notes == ("took linux/amd64 of the index: only a single image can be there",)


async def test_an_error_in_the_answer_of_200_is_noticed(engine: Engine, environ: dict[str, str]) -> None:
    engine.load_error = "write /layer.tar: no space left on device"
    with pytest.raises(AsyncraneError, match=r"cannot load docker\.io/library/app:1: write .* no space left on device"):
        await load(environ, "app:1", random_image("app"))


async def test_a_refusal_before_all_is_sent_is_the_error(engine: Engine, environ: dict[str, str]) -> None:
    engine.load_refusal = "not today"
    with pytest.raises(RegistryError, match="500 Internal Server Error: not today") as caught:
        await load(environ, "app:1", random_image("app", layers=(300_000,)))
    assert caught.value.status == 500


async def test_an_image_that_is_not_there_is_not_found(environ: dict[str, str]) -> None:
    with pytest.raises(NotFound, match=r"unix://.*docker\.sock has no image app:1") as caught:
        async with open_daemon("app:1", writing=False, environ=environ):
            pass
    assert "\n" not in str(caught.value)


async def test_an_archive_that_is_cut_off_is_no_image(engine: Engine, environ: dict[str, str]) -> None:
    await load(environ, "app:1", random_image("app", layers=(200_000,)))
    for cut in (0, 1000, 150_000):
        engine.cut_save = cut
        with pytest.raises((Interrupted, ContentError), match=r"images/get|docker-daemon:app:1"):
            async with open_daemon("app:1", writing=False, environ=environ):
                pass


async def test_no_engine_is_one_line(tmp_path: Path) -> None:
    for host, says in (
        (f"unix://{tmp_path}/none.sock", "none.sock: no such file or directory"),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1: connection refused"),
    ):
        for writing in (True, False):
            with pytest.raises(ConnectFailed, match="no container engine at") as caught:
                async with open_daemon("app:1", writing=writing, environ={"DOCKER_HOST": host}):
                    pass
            assert says in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"DOCKER_HOST": "ssh://somewhere"}, "DOCKER_HOST is 'ssh://somewhere'"),
        ({"DOCKER_HOST": "unix://"}, "expected unix:///PATH"),
        ({"DOCKER_HOST": "tcp://"}, "expected unix:///PATH or tcp://HOST:PORT"),
        ({"DOCKER_API_VERSION": "new"}, "DOCKER_API_VERSION is 'new'"),
        ({"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/none"}, "/none/"),
    ],
)
async def test_an_environment_that_cannot_be_used_is_said(environ: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says.replace("(", r"\(")):
        async with open_daemon("app", writing=False, environ=environ):
            pass


async def test_names_that_cannot_be_loaded_are_refused(engine: Engine, environ: dict[str, str]) -> None:
    for name in (f"app@sha256:{'0' * 64}", "App", "app:"):
        with pytest.raises(InvalidReference):
            async with open_daemon(name, writing=True, environ=environ):
                pass
    assert engine.requests == []


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("app", "docker.io/library/app:latest"),
        ("team/app:1", "docker.io/team/app:1"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("index.docker.io/library/app:1", "docker.io/library/app:1"),
        (f"quay.io/a/b@sha256:{'1' * 64}", f"quay.io/a/b@sha256:{'1' * 64}"),
    ],
)
def test_names_are_said_in_full(name: str, full: str) -> None:
    assert full_name(name) == full


@pytest.mark.parametrize(
    ("theirs", "pinned", "spoken"),
    [("1.41", "", "1.41"), ("1.99", "", "1.55"), ("1.44", "1.40", "1.40"), ("1.44", "v1.43", "1.43")],
)
async def test_the_newest_version_that_both_speak_is_spoken(
    engine: Engine, environ: dict[str, str], theirs: str, pinned: str, spoken: str
) -> None:
    engine.version = theirs
    await load({**environ, "DOCKER_API_VERSION": pinned}, "app", random_image("app"))
    assert engine.requests == ["HEAD /_ping", f"POST /v{spoken}/images/load"]


async def test_an_engine_that_knows_no_head_is_asked_otherwise(engine: Engine, environ: dict[str, str]) -> None:
    engine.head_ping = False
    await load(environ, "app", random_image("app"))
    assert engine.requests == ["HEAD /_ping", "GET /_ping", "POST /v1.44/images/load"]


async def test_an_engine_that_is_too_old_is_said(engine: Engine, environ: dict[str, str]) -> None:
    engine.version = "1.12"
    with pytest.raises(AsyncraneError, match=r"speaks version 1\.12 of the API, which is too old"):
        await load(environ, "app", random_image("app"))


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """What ``DOCKER_CERT_PATH`` holds, and the engine's side, which wants to see who comes."""
    authority = trustme.CA()
    folder = tmp_path / "certs"
    folder.mkdir()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client = authority.issue_cert("somebody@example.com")
    client.private_key_pem.write_to_path(folder / "key.pem")
    client.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return folder, context


async def test_an_engine_elsewhere_is_reached_over_tcp_and_tls(
    engine: Engine, certificates: tuple[Path, ssl.SSLContext]
) -> None:
    folder, context = certificates
    made = random_image("app")
    async with running(engine, "127.0.0.1") as host:
        await load({"DOCKER_HOST": host}, "plain", made)
    async with running(engine, "127.0.0.1", tls=context) as host:
        shown = {"DOCKER_HOST": host, "DOCKER_CERT_PATH": str(folder)}
        await load({**shown, "DOCKER_TLS_VERIFY": "1"}, "verified", made)
        await load(shown, "unverified", made)
        with pytest.raises(AsyncraneError, match="tcp://127"):
            await load({"DOCKER_HOST": host}, "not-tls", made)
    assert {name.partition("library/")[2] for name in engine.names} == {
        "plain:latest",
        "verified:latest",
        "unverified:latest",
    }


async def test_images_are_copied_from_and_to_an_engine(
    engine: Engine, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere an image is named; what was saved is what every run makes of it."""
    monkeypatch.setenv("DOCKER_HOST", environ["DOCKER_HOST"])
    made = random_image("app")
    async with FaultyRegistry() as registry, Session() as session:
        name = put(registry, "app", made, "1")
        await copy(session, name, "docker-daemon:app:dev")
        assert engine.names == {"docker.io/library/app:dev": image_id(made)}
        first = await copy(session, "docker-daemon:app:dev", f"{registry.address}/back:1")
        second = await copy(session, "docker-daemon:app:dev", f"{registry.address}/back:2")
        assert (first.digest, [target.status for target in second.targets]) == (second.digest, ["tagged"])
        assert incomplete(registry) == []
        back = registry.get_manifest("back", "1")
        assert back is not None
        assert [str(blob.digest) for blob in back.blobs()][-1] == image_id(made)
        with pytest.raises(NotFound, match="has no image nothing"):
            await copy(session, "docker-daemon:nothing", f"{registry.address}/back:3")


_WEIGHED = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ended.returncode)
"""
LARGE = 160 * 1024 * 1024


async def test_j8_memory_does_not_grow_with_the_image(
    engine: Engine, environ: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    """J8: what is saved is neither held nor asked for again."""
    made = random_image("small", layers=(1000,), gzip=False)
    config = made.manifest.config()
    assert config is not None
    block, hashed = os.urandom(1024) * 1024, hashlib.sha256()
    head = tarfile.TarInfo("large")
    head.size = LARGE
    with (folder / "large").open("wb") as file:
        for piece in (head.tobuf(), *([block] * (LARGE // len(block))), bytes(1024)):
            file.write(piece)
            hashed.update(piece)
    (folder / "large").rename(folder / hashed.hexdigest())
    fields = json.loads(made.blobs[config.digest])
    fields["rootfs"]["diff_ids"] = [f"sha256:{hashed.hexdigest()}"]
    body = json.dumps(fields).encode()
    engine.images[str(Digest.of(body))] = Kept(body, tuple(fields["rootfs"]["diff_ids"]))
    engine.names["docker.io/library/large:1"] = str(Digest.of(body))
    async with FaultyRegistry(storage=DiskStorage(tmp_path / "registry")) as registry:
        command = Program(tmp_path / "home").command("cp", "docker-daemon:large:1", f"{registry.address}/large:1")
        variables = {**os.environ, **environ, "HOME": str(tmp_path)}
        ended = await anyio.run_process([sys.executable, "-c", _WEIGHED, *command], env=variables, check=False)
        assert ended.returncode == 0, ended.stderr
        assert incomplete(registry) == []
    assert engine.requests.count("GET /v1.44/images/get") == 1
    assert int(ended.stdout.split()[-1]) * 1024 < LARGE * 3 // 4


@pytest.mark.parametrize("direction", ["from", "to"])
async def test_skopeo_sees_the_engine_as_we_do(
    engine: Engine, environ: dict[str, str], tmp_path: Path, direction: str
) -> None:
    """That what these tests talk to is what others talk to, too."""
    program = require("skopeo", package="skopeo")
    made = random_image("app")
    await load(environ, "app:1", made)
    host = ["--src-daemon-host", environ["DOCKER_HOST"]]
    arguments = ["copy", "-q", *host, "docker-daemon:app:1", f"oci:{tmp_path}/out:1"]
    if direction == "to":
        first = await skopeo(program, arguments)
        assert first.returncode == 0, first.stderr
        host = ["--dest-daemon-host", environ["DOCKER_HOST"]]
        arguments = ["copy", "-q", *host, f"oci:{tmp_path}/out:1", "docker-daemon:app:2"]
    ended = await skopeo(program, arguments)
    assert ended.returncode == 0, ended.stderr
    if direction == "to":
        assert engine.names["docker.io/library/app:2"] == image_id(made)
    else:
        index = json.loads((tmp_path / "out" / "index.json").read_bytes())
        [entry] = index["manifests"]
        blob = tmp_path / "out" / "blobs" / "sha256" / Digest(entry["digest"]).hex
        assert json.loads(blob.read_bytes())["config"]["digest"] == image_id(made)


async def skopeo(program: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DOCKER_API_VERSION": "1.44"}
    return await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environ
        )
    )
