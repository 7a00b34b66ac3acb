"""The distribution-spec's own conformance suite is the judge (github.com/opencontainers/distribution-spec).

It is a Go program, built once into the user's cache directory; ``-m 'not conformance'`` leaves it out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import anyio
import pytest

from asyncrane.server import BasicAuth, PlainUsers, Storage, TokenAuth, make_app, serving
from tests.peers import built

MODULE = "github.com/opencontainers/distribution-spec/conformance"
VERSION = "v0.0.0-20260831232431-97274622c111"

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="session")
def suite() -> Path:
    """The suite's program."""
    return built(f"conformance-{VERSION}", "conformance", ["install", f"{MODULE}@{VERSION}"])


@pytest.mark.parametrize(
    ("storage", "access", "version"),
    [("disk", "none", "1.1"), ("memory", "token", "1.1"), ("disk", "token", "dev"), ("memory", "basic", "dev")],
    indirect=["storage"],
)
async def test_the_registry_conforms(suite: Path, storage: Storage, tmp_path: Path, access: str, version: str) -> None:
    """Pull, push, content discovery, content management; the released specification and what comes next."""
    users = PlainUsers({"bob": "secret"})
    auth = {"none": None, "basic": BasicAuth(users), "token": TokenAuth(users)}[access]
    async with serving(make_app(storage, auth=auth, page=100), grace=0.1) as address:
        environment = {
            "PATH": os.environ["PATH"],
            "OCI_VERSION": version,
            "OCI_REGISTRY": address,
            "OCI_TLS": "disabled",
            "OCI_RESULTS_DIR": str(tmp_path / "results"),
            **({"OCI_USERNAME": "bob", "OCI_PASSWORD": "secret"} if auth else {}),
        }
        ran = await anyio.run_process([str(suite)], env=environment, cwd=tmp_path, check=False)
    text = ran.stdout.decode()
    failed = [line for line in text.splitlines() if line.rstrip().endswith((": Fail", ": Error"))]
    assert (ran.returncode, failed) == (0, []), text
    report = await anyio.Path(tmp_path / "results" / "junit.xml").read_text()
    counts = re.search(r'<testsuite name="[^"]*" tests="(\d+)" failures="0" errors="0"', report)
    assert counts is not None, text
    assert int(counts[1]) > 800
