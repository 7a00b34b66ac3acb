"""Fleets at a real registry: attachments go along, everything is proven, and a killed run is gone on with."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from asyncrane import Journal, MirrorReport, RegistryOptions, Session, copy, load_mirror, mirror_verify
from asyncrane.mirror.apply import Campaign
from asyncrane.mirror.verify import Difference
from asyncrane.oci.reference import Repository
from asyncrane.registry.referrers import fallback_tag
from asyncrane.testing import FaultyRegistry, Gate, stall_response
from asyncrane.testing.images import random_image, random_index
from tests.cli.conftest import Program, stopped_by
from tests.copies.registries import PASSWORD, USER
from tests.mirror.attachments import attach, cosign, tree
from tests.promises.images import incomplete, put
from tests.servers.conftest import PROGRAMS, Server, on
from tests.servers.samples import LARGE, MIB, made


class Fleet:
    """A mirror file from ``home`` to a server and back, and its journal."""

    def __init__(self, directory: Path, home: FaultyRegistry, server: Server, *, rule: str = "") -> None:
        self.server = server
        self.root = server.name("fleet")
        self.path, self.journal = directory / "mirror.yaml", directory / "journal.db"
        access = []
        if server.ca:
            access.append(f"tls: {{ca: {server.ca}}}")
        if server.password:
            (directory / "password").write_text(PASSWORD)
            access.append(f"credentials: {{username: {USER}, password_file: {directory / 'password'}}}")
        registries = f"registries: {{'{server.address}': {{{', '.join(access)}}}}}\n" if access else ""
        rule = rule or f"{{from: '{home.address}/team/**', to: ['{self.root}/{{path}}']}}"
        self.path.write_text(f"version: 1\n{registries}defaults: {{referrers: true}}\nmirrors:\n  - {rule}\n")

    async def apply(self) -> MirrorReport:
        """Do what the file says."""
        spec = load_mirror(self.path)
        with Journal.open(self.journal) as journal:
            async with Session(registries=spec.registries, journal=journal) as session:
                return await Campaign(session, journal).apply(spec, name=self.path)

    async def verify(self, *, repair: bool = False) -> list[Difference]:
        """What is not as it should be."""
        spec, found = load_mirror(self.path), list[Difference]()
        async with Session(registries=spec.registries) as session:
            await mirror_verify(session, spec, deep=True, repair=repair, on_difference=found.append)
        return found


@on(*PROGRAMS)
async def test_a_fleet_arrives_is_proven_repaired_and_not_sent_again(
    server: Server, home: FaultyRegistry, tmp_path: Path
) -> None:
    """G4, A2: every manifest, blob and signature; what somebody deletes there is found and put back."""
    one, other = made("index"), made("image")
    for repository in ("team/a", "team/b"):
        put(home, repository, one, "v1", "latest")
        put(home, repository, other, "v2")
        attach(home, repository, one.manifest, "signature")
        cosign(home, repository, other.digest, "sig", random_image("signature"))
    fleet = Fleet(tmp_path, home, server)
    assert (await fleet.apply()).images == {"copied": 4, "tagged": 2}
    assert await fleet.verify() == []
    again = await fleet.apply()
    assert (again.images, again.statistics.bytes_written, again.statistics.manifests_written) == ({"equal": 6}, 0, 0)
    async with server.session() as session:
        remote = session.remote(Repository.parse(f"{fleet.root}/team/a"), writing=True)
        await remote.delete(str(other.digest))
    assert {difference.destination for difference in await fleet.verify(repair=True)} == {f"{fleet.root}/team/a:v2"}
    assert await fleet.verify() == []


@on(*PROGRAMS)
async def test_attachments_go_there_and_come_back(server: Server, home: FaultyRegistry) -> None:
    """F1: none of these has the referrers API, so they are listed under a tag, which others read."""
    one, name = made("index"), server.name()
    source = put(home, "app", one, "v1")
    first = attach(home, "app", one.manifest, "signature")
    attach(home, "app", first.manifest, "countersigned")
    attach(home, "app", one.manifests[0], "sbom of a platform")
    async with server.session() as session:
        await copy(session, source, f"{name}:v1", referrers=True)
        there = session.remote(Repository.parse(name))
        listed, has_api = await there.attached(one.digest)
        assert ({found.digest for found in listed}, has_api) == ({first.digest}, False)
        assert (await there.manifest(fallback_tag(one.digest))).children()[0].digest == first.digest
        await copy(session, f"{name}:v1", f"{home.address}/back:v1", referrers=True)
    assert tree(home, "back", one.digest) == tree(home, "app", one.digest)


@on("docker-registry", "distribution-3")
async def test_a_run_that_was_killed_in_a_blob_is_gone_on_with(
    server: Server, home: FaultyRegistry, tmp_path: Path, program: Program
) -> None:
    """I2: where the registry kept what had arrived the rest is sent, elsewhere all; what is tagged is whole."""
    sample = random_image(f"killed {server.kind}", layers=(LARGE,))
    put(home, "team/app", sample, "v1")
    large = sample.manifest.layers()[0]
    fleet, gate = Fleet(tmp_path, home, server), Gate()
    home.faults.add(stall_response(LARGE - MIB, gate, kind="blob-get", path=str(large.digest)))
    command = program.command("mirror", "apply", str(fleet.path), "--journal", str(fleet.journal), "--progress", "none")
    ended = await stopped_by(command, program.environ, signal.SIGKILL, gate.reached)
    assert ended.code == -signal.SIGKILL
    gate.release()
    home.faults.clear()
    home.log.clear()
    options: dict[str, RegistryOptions] = dict(load_mirror(fleet.path).registries)
    with Journal.open(fleet.journal) as journal:
        async with Session(registries=options, journal=journal) as session:
            report = await Campaign(session, journal).resume(1)
    assert report.images == {"copied": 1}
    assert await fleet.verify() == []
    gets = home.requests(kind="blob-get", digest=str(large.digest))
    assert len(gets) == (2 if server.powers.limit else 1), "the limit is found out anew"
    assert ("Range" in gets[-1].headers) == server.powers.keeps
    assert (gets[-1].response_bytes < large.size) == server.powers.keeps
    async with server.session() as session:
        await copy(session, f"{fleet.root}/team/app:v1", f"{home.address}/back:v1")
    assert incomplete(home) == []


@on("distribution-3", "tls")
async def test_a_fleet_comes_home(server: Server, home: FaultyRegistry, tmp_path: Path) -> None:
    """The mirror reads from it as well."""
    sample = random_index(f"from {server.kind}")
    name = server.name("team/app")
    async with server.session() as session:
        await copy(session, put(home, "app", sample, "v1"), f"{name}:v1")
    fleet = Fleet(tmp_path, home, server, rule=f"{{from: '{name}', to: ['{home.address}/back/{{path}}']}}")
    assert (await fleet.apply()).images == {"copied": 1}
    assert await fleet.verify() == []
    assert incomplete(home) == []


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "home")
