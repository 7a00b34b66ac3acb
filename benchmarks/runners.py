"""Who copies: asyncrane and its peers, as the commands that copy whole repositories."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

JOBS = 8  # crane's own default is 4 whatever its help says; its best is measured


@dataclass(frozen=True)
class Task:
    """Repositories to copy with all their tags: ``pairs`` of source and destination, ``host:port/path``."""

    pairs: tuple[tuple[str, str], ...]
    scratch: Path  # a directory for the runner's own files
    tls: bool = False


@dataclass(frozen=True)
class Work:
    """What to start: one command after the other, or all at once."""

    commands: tuple[tuple[str, ...], ...]
    parallel: bool = False


@dataclass(frozen=True)
class Runner:
    """A way to copy; ``scenarios`` are those it takes part in when nobody names it, ``None`` for all."""

    name: str
    program: str
    plan: Callable[[str, Task], Work]
    scenarios: frozenset[str] | None = None

    def path(self) -> str | None:
        """Where its program is; asyncrane's is the one of this interpreter's environment, if there is one."""
        beside = Path(sys.executable).with_name(self.program)
        return str(beside) if beside.exists() else shutil.which(self.program)

    def version(self) -> str:
        """What its program calls itself; asking also brings the program into the page cache."""
        path = self.path()
        if path is None:
            return "not installed"
        argument = "--version" if self.program == "skopeo" else "version"
        said = subprocess.run([path, argument], capture_output=True, text=True, timeout=60, check=False)
        return said.stdout.strip().removeprefix(f"{self.program} version ") or f"exit code {said.returncode}"


def _asyncrane(path: str, task: Task) -> Work:
    pairs = task.scratch / "pairs"
    pairs.write_text("".join(f"{source} {destination}\n" for source, destination in task.pairs))
    return Work(((path, "cp", "-a", "--from-file", str(pairs)),))


def _mirror(path: str, task: Task) -> Work:
    """The same repositories as one mirror file, with a journal of the run's own."""
    spec, journal = task.scratch / "mirror.yaml", task.scratch / "journal.db"
    rules = "".join(f"  - from: {source}\n    to: [{destination}]\n" for source, destination in task.pairs)
    spec.write_text(f"version: 1\nmirrors:\n{rules}")
    return Work(((path, "mirror", "apply", str(spec), "--journal", str(journal)),))


def _crane(path: str, task: Task) -> Work:
    return Work(tuple((path, "cp", "-a", "-j", str(JOBS), *pair) for pair in task.pairs))


def _crane_parallel(path: str, task: Task) -> Work:
    return Work(_crane(path, task).commands, parallel=True)


def _skopeo(path: str, task: Task) -> Work:
    verify = "true" if task.tls else "false"
    checks = (f"--src-tls-verify={verify}", f"--dest-tls-verify={verify}")
    policy = ("--insecure-policy",)  # signatures are nobody's business here
    return Work(
        tuple(
            # sync appends the last part of the source's path to the destination
            (path, *policy, "sync", "--all", "--src=docker", "--dest=docker", *checks, source, _parent(destination))
            for source, destination in task.pairs
        )
    )


def _parent(repository: str) -> str:
    return repository.rpartition("/")[0]


REFERENCE = "asyncrane"  # whom everybody is compared with
MIRROR = "mirror"  # asyncrane mirror apply

RUNNERS: tuple[Runner, ...] = (
    Runner(REFERENCE, "asyncrane", _asyncrane),
    Runner(
        MIRROR,
        "asyncrane",
        _mirror,
        frozenset({"fleet", "fleet-50ms", "fleet-200ms", "tiny", "tiny-50ms", "tiny-200ms", "resync", "resync-50ms"}),
    ),
    Runner("crane", "crane", _crane),
    Runner(
        "crane-parallel",
        "crane",
        _crane_parallel,
        frozenset({"fleet", "fleet-tls", "fleet-50ms", "fleet-200ms", "tiny", "tiny-tls", "tiny-50ms", "tiny-200ms"}),
    ),
    Runner("skopeo", "skopeo", _skopeo, frozenset({"big", "fleet"})),
)


def environment(home: Path, *, authority: Path | None = None) -> dict[str, str]:
    """The environment of every runner: no credentials, no proxies, and one authority to trust beyond none."""
    strange = ("_proxy", "docker_", "registry_auth", "ssl_cert", "xdg_", "asyncrane_")
    env = {name: value for name, value in os.environ.items() if not any(part in name.lower() for part in strange)}
    env |= {"HOME": str(home), "DOCKER_CONFIG": str(home), "XDG_RUNTIME_DIR": str(home)}
    if authority is not None:
        env["SSL_CERT_FILE"] = str(authority)
    return env
