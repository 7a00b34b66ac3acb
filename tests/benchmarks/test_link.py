"""The line that is never the limit really serves the blob, and every program takes it."""

from __future__ import annotations

import pytest

from benchmarks.link import main
from tests.peers import require


def test_every_program_takes_the_blob_plain_and_over_tls(capsys: pytest.CaptureFixture[str]) -> None:
    require("curl", package="curl")
    require("nginx", package="nginx-light")
    main(["--size", "0.01", "--rounds", "1"])
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [(line.strip(), program.strip()) for line, program in rows] == [
        (line, program) for line in ("plain", "TLS") for program in ("asyncrane blob", "curl", "curl | sha256sum")
    ]
