"""The run itself: for each data set a source is built, for each turn a destination is emptied, filled and checked."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import msgspec

from .accesslog import counts, read
from .claims import claims
from .client import Client, UnexpectedAnswer, connected
from .fill import Filled, Incomplete, fill, remove, verify
from .measure import Failed, measure
from .proxy import lines
from .registries import Certificates, Registry, serving
from .results import Measured, Run
from .runners import Task, environment
from .scenarios import DATASETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from .runners import Runner
    from .scenarios import Scenario


@dataclass(frozen=True)
class Source:
    """A data set in its registry; ``storage`` is where, ``namespace`` precedes its repositories' paths."""

    filled: Filled
    storage: Path
    namespace: str = ""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Everything that is the same for all scenarios. ``given`` are registries that are not ours to start or empty."""

    workdir: Path
    certificates: Certificates
    say: Callable[[str], None]
    given: tuple[Registry, Registry] | None = None
    quick: bool = False
    timeout: float = 900.0
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    turns: itertools.count[int] = field(default_factory=itertools.count)

    async def run(
        self,
        scenarios: Sequence[tuple[Scenario, Sequence[Runner], int]],
        *,
        collect: Callable[[Measured], None],
    ) -> None:
        """Measure each scenario with its runners and rounds; what is ready goes to ``collect`` at once."""
        for dataset, group in itertools.groupby(scenarios, key=lambda one: one[0].dataset):
            async with self._built(dataset) as source:
                for scenario, runners, rounds in group:
                    if self.given and any(registry.tls != scenario.tls for registry in self.given):
                        self.say(f"{scenario.name}: left out, the given registries do not speak that way")
                    else:
                        await self._measured(scenario, runners, rounds, source, collect)

    @asynccontextmanager
    async def _built(self, dataset: str) -> AsyncIterator[Source]:
        home = self.workdir / "datasets" / dataset
        namespace = f"asyncrane-bench-{self.token}/" if self.given else ""
        self.say(f"{dataset}: building the source")
        async with self._serving(0, home / "storage", home / "building") as registry, self._client(registry) as client:
            filled = await fill(client, DATASETS[dataset](quick=self.quick), namespace=namespace)
        try:
            yield Source(filled, home / "storage", namespace)
        finally:
            with anyio.CancelScope(shield=True):
                if self.given:
                    async with self._client(self.given[0]) as client:
                        await remove(client, filled)
                await _removed(home)

    async def _measured(
        self,
        scenario: Scenario,
        runners: Sequence[Runner],
        rounds: int,
        source: Source,
        collect: Callable[[Measured], None],
    ) -> None:
        home = self._home(scenario)
        filled, runs = source.filled, list[Run]()
        try:
            async with self._serving(0, source.storage, home / "source", tls=scenario.tls) as registry:
                async with self._client(registry) as client:
                    await verify(client, filled)  # the same state for the first runner as for the last: all warm
                if scenario.filled:
                    await self._fill_destination(scenario)
                for number in range(rounds):
                    for runner in [*runners[number % len(runners) :], *runners[: number % len(runners)]]:
                        runs.append(await self._turn(scenario, runner, number, source, registry))
                        self.say(_line(scenario, runs[-1], rounds))
        finally:
            collect(
                Measured(
                    scenario=scenario.name,
                    dataset=scenario.dataset,
                    tls=scenario.tls,
                    rtt=scenario.rtt,
                    filled=scenario.filled,
                    repositories=len(filled.repositories),
                    tags=len(filled.tags),
                    blobs=len(filled.blobs),
                    bytes=filled.bytes,
                    runs=tuple(runs),
                )
            )
            with anyio.CancelScope(shield=True):
                if self.given and scenario.filled:
                    namespace = self._destination_namespace(scenario, 0)
                    async with self._client(self.given[1]) as client:
                        await remove(client, filled, source=source.namespace, destination=namespace)
                await _removed(home)

    async def _fill_destination(self, scenario: Scenario) -> None:
        home = self._home(scenario)
        async with self._serving(1, home / "filled", home / "filling") as registry, self._client(registry) as client:
            namespace = self._destination_namespace(scenario, 0)
            await fill(client, DATASETS[scenario.dataset](quick=self.quick), namespace=namespace)

    async def _turn(self, scenario: Scenario, runner: Runner, number: int, source: Source, origin: Registry) -> Run:
        """One runner, once: a destination of its own, timed, then checked, then thrown away."""
        turn = next(self.turns)
        home = self._home(scenario) / f"turn-{turn}"
        storage = self._home(scenario) / "filled" if scenario.filled else home / "storage"
        namespace = self._destination_namespace(scenario, turn)
        try:
            async with self._serving(1, storage, home / "destination", tls=scenario.tls) as target:
                run, mark = await self._timed(scenario, runner, number, source, (origin, target), home, namespace)
                async with self._client(target) as client:
                    if not run.error:
                        await verify(client, source.filled, source=source.namespace, destination=namespace)
                    if self.given and not scenario.filled:
                        await remove(client, source.filled, source=source.namespace, destination=namespace)
            return await anyio.to_thread.run_sync(_with_requests, run, source.filled, origin, mark, target)
        except (Incomplete, UnexpectedAnswer) as error:
            return Run(runner=runner.name, round=number, error=f"it ended well, but: {error}")
        finally:
            with anyio.CancelScope(shield=True):
                await _removed(home)

    async def _timed(
        self,
        scenario: Scenario,
        runner: Runner,
        number: int,
        source: Source,
        registries: tuple[Registry, Registry],
        home: Path,
        namespace: str,
    ) -> tuple[Run, int]:
        """The run, not yet checked, and where its requests begin in the source's log."""
        path = runner.path()
        if path is None:
            raise AssertionError(f"{runner.program} was there a moment ago")
        origin, _ = registries
        async with lines([registry.address for registry in registries], scenario.rtt) as line:
            near, far = line.addresses
            pairs = tuple(
                (f"{near}/{one}", f"{far}/{namespace}{one.removeprefix(source.namespace)}")
                for one in source.filled.repositories
            )
            work = runner.plan(path, Task(pairs, home, scenario.tls))
            env = environment(home, authority=self.certificates.authority if scenario.tls else None)
            mark, load = origin.logged(), os.getloadavg()[0]
            cpu = [registry.cpu_seconds() for registry in registries]
            try:
                cost = await measure(work, log=home / "output", env=env, timeout=self.timeout)
            except Failed as error:
                return Run(runner=runner.name, round=number, error=str(error), load=load), mark
            run = Run(
                runner=runner.name,
                round=number,
                wall=cost.wall,
                user=cost.user,
                system=cost.system,
                rss=cost.rss,
                rss_sum=cost.rss_sum,
                registries_cpu=sum(registry.cpu_seconds() for registry in registries) - sum(cpu),
                proxy_cpu=line.cpu_seconds(),
                load=load,
            )
            return run, mark

    def _home(self, scenario: Scenario) -> Path:
        return self.workdir / "scenarios" / scenario.name

    def _destination_namespace(self, scenario: Scenario, turn: int) -> str:
        """What precedes a repository's path: a new place for every turn where the registry cannot be emptied."""
        if not self.given:
            return ""
        return f"asyncrane-bench-{self.token}/{'filled' if scenario.filled else f'turn-{turn}'}/"

    @asynccontextmanager
    async def _serving(self, side: int, storage: Path, home: Path, *, tls: bool = False) -> AsyncIterator[Registry]:
        if self.given:
            await anyio.Path(home).mkdir(parents=True, exist_ok=True)
            yield self.given[side]
            return
        async with serving(storage, home=home, tls=self.certificates if tls else None) as registry:
            yield registry

    @asynccontextmanager
    async def _client(self, registry: Registry) -> AsyncIterator[Client]:
        trust = self.certificates.trust() if registry.tls and not self.given else None
        async with connected(registry.url, trust=trust) as client:
            yield client


def _with_requests(run: Run, filled: Filled, origin: Registry, mark: int, target: Registry) -> Run:
    """The run with what both registries logged for it."""
    if origin.log is None or target.log is None:
        return run
    asked, sent = read(origin.log, start=mark), read(target.log)
    return msgspec.structs.replace(
        run,
        source_requests=counts(asked),
        destination_requests=counts(sent),
        bytes_read=sum(one.size for one in asked if one.method == "GET" and one.kind == "blob"),
        claims=() if run.error else claims(filled, asked, sent),
    )


def _line(scenario: Scenario, run: Run, rounds: int) -> str:
    what = run.error or f"{run.wall:.2f} s, {run.cpu:.2f} CPU s, {run.rss:.0f} MiB"
    return f"{scenario.name} {run.round + 1}/{rounds} {run.runner}: {what}"


async def _removed(directory: Path) -> None:
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))
