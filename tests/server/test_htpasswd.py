"""Users in a file, written by Apache's own tool where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrane.errors import InvalidInput
from asyncrane.server import HtpasswdUsers, htpasswd

# Made with htpasswd 2.4: -m, -s, -B.
APR1 = "$apr1$XsoS7Tmt$2JdB0Og44q5H8Y2HCUVkX/"
SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
BCRYPT = "$2y$05$Ze0olqKspU8CDzkk7vaq0e3HPQMhh33X6P0nMBeLATzb61QbmsNMm"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("stored", [APR1, SHA, BCRYPT, "{PLAIN}secret"])
def test_a_password_is_checked(tmp_path: Path, stored: str) -> None:
    users = HtpasswdUsers.read(write(tmp_path, f"# people\n\nalice:{{PLAIN}}x\nbob:{stored}\n"))
    for _ in range(2):
        assert users.check("bob", "secret")
        for wrong in ("", "Secret", "secret ", "sécret"):
            assert not users.check("bob", wrong)
        assert not users.check("eve", "secret")
        assert not users.check("", "")


def test_without_any_bcrypt_such_a_password_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """musl and macOS have a crypt(3) that knows no bcrypt."""
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    monkeypatch.setattr(htpasswd, "_crypt", lambda: None)
    with pytest.raises(InvalidInput, match=r"line 1: .*pip install bcrypt"):
        HtpasswdUsers.read(write(tmp_path, f"bob:{BCRYPT}"))


def test_the_package_takes_over_where_crypt_knows_no_bcrypt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bcrypt")
    monkeypatch.setattr(htpasswd, "_crypt", lambda: None)
    users = HtpasswdUsers.read(write(tmp_path, f"bob:{BCRYPT}"))
    assert users.check("bob", "secret")
    assert not users.check("bob", "x" * 100)


@pytest.mark.parametrize("line", ["bob", ":x", "bob:DqDswFhXAYs7Y", "bob:$9$x", "bob:secret"])
def test_a_line_that_cannot_be_used_is_named_without_its_secret(tmp_path: Path, line: str) -> None:
    with pytest.raises(InvalidInput, match="line 2") as caught:
        HtpasswdUsers.read(write(tmp_path, f"# people\n{line}\n"))
    assert "DqDs" not in str(caught.value)
    assert "secret" not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.skipif(shutil.which("htpasswd") is None, reason="apache2-utils is not installed")
@pytest.mark.parametrize("password", ["x", "secret", "x" * 16, "x" * 17, "x" * 47, "pä55wörd ☃"])
@pytest.mark.parametrize("form", ["-m", "-s", "-B", "-2", "-5"])
def test_what_apaches_tool_writes_is_understood(tmp_path: Path, form: str, password: str) -> None:
    line = subprocess.run(
        ["htpasswd", "-nb", form, "bob", password], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    users = HtpasswdUsers.read(write(tmp_path, line.stdout))
    assert users.check("bob", password)
    assert not users.check("bob", f"{password}x")
