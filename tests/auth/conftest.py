"""A user: a home directory, an environment and a PATH with real credential helpers on it."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from asyncrane.auth.keychain import DefaultKeychain

_HELPER = """#!{python} -IS
import json, os, sys
folder, verb = os.path.dirname(os.path.abspath(sys.argv[0])), sys.argv[1]
order = sys.stdin.read()
with open(os.path.join(folder, "{name}.log"), "a") as log:
    log.write(verb + " " + order.strip() + "\\n")
store = os.path.join(folder, "{name}.store")
kept = json.load(open(store)) if os.path.exists(store) else {{}}
if verb == "get":
    if order not in kept:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps({{"ServerURL": order, "Username": kept[order][0], "Secret": kept[order][1]}}))
elif verb == "store":
    fields = json.loads(order)
    kept[fields["ServerURL"]] = [fields["Username"], fields["Secret"]]
elif verb == "erase":
    if kept.pop(order, None) is None:
        print("credentials not found in native keychain")
        sys.exit(1)
else:
    print(json.dumps({{server: kept[server][0] for server in kept}}))
json.dump(kept, open(store, "w"))
"""


class User:
    """Somebody with files, variables and helpers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir()
        self.environ = {
            "HOME": str(home),
            "PATH": f"{self.bin}{os.pathsep}{os.defpath}",
            "XDG_RUNTIME_DIR": str(home / "run"),
        }

    @property
    def docker(self) -> Path:
        return self.home / ".docker" / "config.json"

    @property
    def podman(self) -> Path:
        return self.home / "run" / "containers" / "auth.json"

    @property
    def podman_config(self) -> Path:
        return self.home / ".config" / "containers" / "auth.json"

    def write(self, path: Path, fields: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fields if isinstance(fields, str) else json.dumps(fields))
        return path

    def helper(self, name: str, kept: Mapping[str, tuple[str, str]]) -> None:
        """A helper that follows the protocol and logs every call."""
        self.write(self.bin / f"{name}.store", kept)
        self.script(name, _HELPER.format(python=sys.executable, name=name))

    def script(self, name: str, text: str) -> Path:
        path = self.write(self.bin / f"docker-credential-{name}", text)
        path.chmod(0o755)
        return path

    def calls(self, name: str) -> list[str]:
        log = self.bin / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []

    def keychain(self, *, helper_limit: float = 30.0) -> DefaultKeychain:
        return DefaultKeychain(environ=self.environ, helper_limit=helper_limit)


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)
