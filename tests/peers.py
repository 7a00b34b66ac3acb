"""What the tests compare with and nobody here wrote: programs on PATH, and registries that somebody else runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
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


def given_registries(environ: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """``host:port`` of two running registries to use instead of started ones (docker-compose.yml), if both are set."""
    named = (environ.get(f"ASYNCRANE_TEST_REGISTRY_{side}", "") for side in "AB")
    first, second = (name.rpartition("://")[2].rstrip("/") for name in named)
    return (first, second) if first and second else None
