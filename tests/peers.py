"""What the tests compare with and nobody here wrote: programs on PATH or built, and registries somebody else runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest


def require(program: str, *, package: str = "", environ: Mapping[str, str] = os.environ) -> Path:
    """The path of a program; without it the test is skipped, naming the Debian package that has it.

    In CI (``CI=true``) packages are installed, so a missing one is a failure. A program that is no package
    (``crane``) is only ever skipped.
    """
    if found := shutil.which(program):
        return Path(found)
    reason = f"{program} is not on PATH" + (f" (Debian package {package})" if package else "")
    if package and environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{reason}, and this is CI", pytrace=False)
    pytest.skip(reason)


def built(folder: str, program: str, *commands: Sequence[str], sources: Mapping[str, str] | None = None) -> Path:
    """A Go program, built once into ``folder`` of the user's cache directory; where it cannot be, the test is skipped.

    ``sources`` are put there first; ``commands`` are go's, run in it, and ``go install`` installs to it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asyncrane" / folder
    if (cache / program).exists():
        return cache / program
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    cache.mkdir(parents=True, exist_ok=True)
    for name, content in (sources or {}).items():
        (cache / name).write_text(content)
    environ = {**os.environ, "GOBIN": str(cache)}
    for command in commands:
        ended = subprocess.run([go, *command], cwd=cache, env=environ, capture_output=True, text=True, check=False)
        if ended.returncode:
            pytest.skip(f"{program} cannot be built here: {ended.stderr.strip()[-200:]}")
    return cache / program


def given_registries(environ: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """``host:port`` of two running registries to use instead of started ones (docker-compose.yml), if both are set."""
    named = (environ.get(f"ASYNCRANE_TEST_REGISTRY_{side}", "") for side in "AB")
    first, second = (name.rpartition("://")[2].rstrip("/") for name in named)
    return (first, second) if first and second else None
