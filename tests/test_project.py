"""The project's own files: what is shipped, what the commands do, that they say the same."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import asyncrane
from asyncrane.oci.reference import is_loopback_or_private
from tests import peers

ROOT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROGRAMS = ("docker-registry", "skopeo", "nginx", "htpasswd", "umoci", "chromium", "jq", "crane")


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_there_is_one_version() -> None:
    assert importlib.metadata.version("asyncrane") == asyncrane.__version__
    assert re.search(rf"^## \[?{re.escape(asyncrane.__version__)}\b", read("CHANGELOG.md"), re.MULTILINE)


def test_the_license_is_apache_2() -> None:
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    text = read("LICENSE")
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_dependency_says_what_it_is_for() -> None:
    project = PYPROJECT["project"]
    declared = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    lines = [line.strip() for line in read("pyproject.toml").splitlines()]
    for dependency in declared:
        assert any(re.match(rf'"{re.escape(dependency)}",\s+# \w', line) for line in lines), dependency


def test_python_versions_agree() -> None:
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py311"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == "3.11"


def test_the_sdist_holds_every_file_of_the_repository(tmp_path: Path) -> None:
    git = peers.require("git", package="git")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git working tree")
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    archive = next(SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with tarfile.open(archive) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    assert tracked - held == set()


def test_the_wheel_holds_the_package_its_types_and_nothing_else(tmp_path: Path) -> None:
    archive = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(archive) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())
    files = (path for path in (ROOT / "asyncrane").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {str(path.relative_to(ROOT)) for path in files}
    assert "asyncrane/py.typed" in held


def make(directory: Path, *arguments: str) -> str:
    command = [str(peers.require("make", package="make")), "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make` looks at, and nothing installed."""
    (tmp_path / "asyncrane").mkdir()
    for name in ("Makefile", "pyproject.toml", "asyncrane/_version.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def installed(checkout: Path, *stamps: str) -> None:
    binaries = checkout / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    for stamp in stamps:
        (checkout / ".venv" / stamp).touch()


def test_the_readmes_two_commands_exist(checkout: Path) -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"make \w+", read("README.md")))
    for target in ("demo", "test", "check", "bench", "clean", "distclean"):
        assert re.search(rf"^  make {target} ", make(checkout), re.MULTILINE)


@pytest.mark.parametrize(("target", "extra"), [("demo", ""), ("test", "[test]")])
def test_the_first_run_makes_an_environment_and_installs(checkout: Path, target: str, extra: str) -> None:
    commands = make(checkout, "-n", target)
    assert "-m venv --clear .venv" in commands
    assert re.search(rf"install --quiet --editable '?\.{re.escape(extra)}'?$", commands, re.MULTILINE)


def test_a_second_run_installs_nothing(checkout: Path) -> None:
    installed(checkout, ".asyncrane-run", ".asyncrane-test")
    assert make(checkout, "-n", "demo", "ARGS=-v") == ".venv/bin/asyncrane demo -v\n"
    workers = "--numprocesses auto --maxprocesses 4 --dist worksteal"
    assert make(checkout, "-n", "test", "ARGS=-x") == f".venv/bin/python -m pytest {workers} -x\n"


def test_an_environment_that_is_there_is_used(checkout: Path) -> None:
    installed(checkout)
    commands = make(checkout, "-n", "test")
    assert "-m venv" not in commands
    assert "--editable '.[test]'" in commands


def test_a_changed_pyproject_installs_again(checkout: Path) -> None:
    installed(checkout, ".asyncrane-run", ".asyncrane-test")
    later = (checkout / ".venv" / ".asyncrane-test").stat().st_mtime + 10
    os.utime(checkout / "pyproject.toml", (later, later))
    assert "--editable '.[test]'" in make(checkout, "-n", "test")


def test_an_environment_whose_python_has_gone_is_made_anew(checkout: Path) -> None:
    installed(checkout)
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python")
    assert "-m venv --clear" in make(checkout, "-n", "demo")


PASSED, FAILED, NOTHING = "= 3 passed in 0.10s =", "= 1 failed in 0.10s =", "= no tests ran in 0.01s ="


@pytest.mark.parametrize(
    ("check", "test", "summary", "code"),
    [(0, 0, PASSED, 0), (0, 1, FAILED, 1), (0, 5, NOTHING, 5), (1, 0, PASSED, 2), (1, 1, FAILED, 1)],
)
def test_the_ci_script_ends_with_pytests_summary_and_code(
    tmp_path: Path, check: int, test: int, summary: str, code: int
) -> None:
    """Run as it is, where all peers are installed, with a Makefile whose outcome is known."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text(
        f"check:\n\t@echo checked; exit {check}\ntest:\n\t@echo CI is $$CI >&2; echo '{summary}'; exit {test}\n"
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    pinned = re.search(r"version=(v3\S+)", read(".ci/run"))
    assert pinned is not None
    distribution = tmp_path / ".cache" / "asyncrane" / f"distribution-{pinned[1]}" / "registry"
    distribution.parent.mkdir(parents=True)
    for program in (*(programs / name for name in PROGRAMS), distribution):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.defpath))
    peers.require("make", package="make")
    ended = subprocess.run(
        [tmp_path / ".ci" / "run"],
        env={"PATH": path, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    lines = ended.stdout.splitlines()
    assert lines[0] == "checked"
    assert lines[-2:] == ["CI is true", summary]
    assert ended.returncode == code


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(read("docker-compose.yml"))
    return found


def test_the_compose_file_has_two_registries_with_health_checks(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"distribution", "zot"}
    for service in compose["services"].values():
        assert service["healthcheck"]["test"][-1].endswith("/v2/")
        assert {"interval", "timeout", "retries"} <= set(service["healthcheck"])
        assert ("image" in service) != ("build" in service)


def test_the_compose_file_publishes_the_ports_its_variables_name_on_the_loopback(compose: dict[str, Any]) -> None:
    published = [port.rpartition(":")[0] for service in compose["services"].values() for port in service["ports"]]
    assert re.findall(r"ASYNCRANE_TEST_REGISTRY_[AB]=(\S+)", read("docker-compose.yml")) == published
    assert all(is_loopback_or_private(address) for address in published)


def test_given_registries_are_used_only_when_both_are_named() -> None:
    environ: dict[str, str] = {}
    assert peers.given_registries(environ) is None
    environ["ASYNCRANE_TEST_REGISTRY_A"] = "127.0.0.1:5001"
    assert peers.given_registries(environ) is None
    environ["ASYNCRANE_TEST_REGISTRY_B"] = "http://127.0.0.1:5002/"
    assert peers.given_registries(environ) == ("127.0.0.1:5001", "127.0.0.1:5002")


def test_a_missing_peer_is_skipped_by_name_and_fails_in_ci() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"no-such-peer is not on PATH \(Debian package some-package\)"):
        peers.require("no-such-peer", package="some-package", environ={})
    with pytest.raises(pytest.fail.Exception, match=r"Debian package some-package\), and this is CI"):
        peers.require("no-such-peer", package="some-package", environ={"CI": "true"})
    with pytest.raises(pytest.skip.Exception, match=r"no-such-peer is not on PATH$"):
        peers.require("no-such-peer", environ={"CI": "true"})
