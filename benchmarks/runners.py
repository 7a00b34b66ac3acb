"""Who copies: asyncrane and its peers, as the commands that copy whole repositories."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .scenarios import SCALES

JOBS = 8  # of every peer that can be told


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
    settings: str = ""  # how it is called, and why so: every peer at its best

    def path(self) -> str | None:
        """Where its program is; asyncrane's is the one of this interpreter's environment, if there is one."""
        beside = Path(sys.executable).with_name(self.program)
        return str(beside) if beside.exists() else shutil.which(self.program)

    def version(self) -> str:
        """What its program calls itself; asking also brings the program into the page cache."""
        path = self.path()
        if path is None:
            return "not installed"
        argument = "--version" if self.program in ("skopeo", "curl") else "version"
        said = subprocess.run([path, argument], capture_output=True, text=True, timeout=60, check=False)
        found = re.search(r"VCSTag: *(\S+)|^curl (\S+)", said.stdout)  # regctl, regsync and curl say much more
        if found is not None:
            return found[1] or found[2]
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


def _one_image(path: str, task: Task) -> Work:
    return Work(tuple((path, "cp", "-j", str(JOBS), f"{src}:latest", f"{dst}:latest") for src, dst in task.pairs))


def _regctl(path: str, task: Task) -> Work:
    hosts = {side.partition("/")[0] for pair in task.pairs for side in pair}
    how = [word for host in sorted(hosts) for word in ("--host", f"reg={host},tls={_tls(task)}")]
    copies = ((f"{source}:latest", f"{destination}:latest") for source, destination in task.pairs)
    return Work(tuple((path, *how, "image", "copy", *copy) for copy in copies))


def _regsync(path: str, task: Task) -> Work:
    hosts = sorted({side.partition("/")[0] for pair in task.pairs for side in pair})
    settings = {
        "version": 1,
        "creds": [{"registry": host, "tls": _tls(task), "reqConcurrent": 3 * JOBS} for host in hosts],
        "defaults": {"parallel": JOBS},
        "sync": [{"source": near, "target": far, "type": "repository"} for near, far in task.pairs],
    }
    file = task.scratch / "regsync.yml"
    file.write_text(json.dumps(settings))  # JSON is YAML
    return Work(((path, "--verbosity", "warn", "once", "-c", str(file)),))


_CURL = """
cd "$0"
curl -sSf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "$1/manifests/latest" -o manifest
for digest in $(grep -o 'sha256:[0-9a-f]*' manifest); do
  (
    upload=$(curl -sSf -X POST -o /dev/null -w '%header{location}' "$2/blobs/uploads/")
    curl -sSf "$1/blobs/$digest" | curl -sSf -X PUT -H 'Content-Type: application/octet-stream' -T - \\
      "$upload&digest=$digest"
  ) &
done
wait
curl -sSf -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' -T manifest "$2/manifests/latest"
"""


def _curl(path: str, task: Task) -> Work:
    scheme = "https" if task.tls else "http"
    pairs = ((f"{scheme}://{side.replace('/', '/v2/', 1)}" for side in pair) for pair in task.pairs)
    return Work(tuple(("sh", "-c", _CURL.replace("curl -", f"{path} -"), str(task.scratch), *pair) for pair in pairs))


def _tls(task: Task) -> str:
    return "enabled" if task.tls else "disabled"


REFERENCE = "asyncrane"  # whom everybody is compared with
MIRROR = "mirror"  # asyncrane mirror apply
CURL = "curl"  # no peer: the least that moving the bytes can cost
OWN = frozenset({REFERENCE, MIRROR})

_FLEETS = frozenset({"fleet", "fleet-50ms", "fleet-200ms", "tiny", "tiny-50ms", "tiny-200ms"})
_RESYNCS = frozenset({"resync", "resync-50ms"})

RUNNERS: tuple[Runner, ...] = (
    Runner(REFERENCE, "asyncrane", _asyncrane, settings="cp -a --from-file PAIRS: all repositories are one run"),
    Runner(
        MIRROR, "asyncrane", _mirror, _FLEETS | _RESYNCS | set(SCALES), "mirror apply FILE, with a journal of its own"
    ),
    Runner(
        "crane",
        "crane",
        _crane,
        _FLEETS | _RESYNCS | {"big", "big-tls", "fleet-tls", "tiny-tls"},
        f"cp -a -j {JOBS}, one repository after the other (its own default is 4, whatever its help says)",
    ),
    Runner(
        "crane-parallel",
        "crane",
        _crane_parallel,
        _FLEETS | {"fleet-tls", "tiny-tls"},
        f"the same with -j {JOBS} for each repository, all at once",
    ),
    Runner(
        "gcrane",
        "gcrane",
        _one_image,
        frozenset({"big"}),
        "cp of one image: its cp -r copies nothing from a registry that does not list as Google's do",
    ),
    Runner(
        "skopeo",
        "skopeo",
        _skopeo,
        frozenset({"big", "fleet"}),
        "sync --all, one repository after the other (it has no option for more at once)",
    ),
    Runner("regctl", "regctl", _regctl, frozenset({"big"}), "image copy, layers at once as it thinks right"),
    Runner(
        "regsync",
        "regsync",
        _regsync,
        frozenset({"fleet", "fleet-tls", "tiny", "resync"}),
        f"once, with parallel: {JOBS} and reqConcurrent: {3 * JOBS} (its own defaults are 1 and 3)",
    ),
    Runner(
        CURL, "curl", _curl, frozenset({"big"}), "for each blob a GET piped into a PUT, all at once, nothing checked"
    ),
)


def environment(home: Path, *, authority: Path | None = None) -> dict[str, str]:
    """The environment of every runner: no credentials, no proxies, and one authority to trust beyond none."""
    strange = ("_proxy", "docker_", "registry_auth", "ssl_cert", "xdg_", "asyncrane_")
    env = {name: value for name, value in os.environ.items() if not any(part in name.lower() for part in strange)}
    env |= {"HOME": str(home), "DOCKER_CONFIG": str(home), "XDG_RUNTIME_DIR": str(home)}
    if authority is not None:
        env["SSL_CERT_FILE"] = str(authority)
    return env
