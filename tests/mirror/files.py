"""Mirror files in a folder of their own, to see what is read from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from asyncrane.errors import InvalidMirrorSpec
from asyncrane.mirror.document import load_mirror
from asyncrane.mirror.spec import MirrorSpec, Rule
from asyncrane.oci.digest import Digest

DIGESTS = [str(Digest.of(str(number).encode())) for number in range(3)]
SECRET = "correct-horse-battery"

WHOLE = f"""\
version: 1
registries:                       # optional, per host
  registry.example.com:
    credentials: {{username: ci, password_env: CI_TOKEN}}
    tls: {{ca: ca.pem, cert: c.pem, key: k.pem, insecure: false, plain_http: false}}
    limits: {{requests: auto, streams: 4, rate: 50MiB/s}}
    mirrors: [cache.local:5000]
    on_missing_repository: create
  docker.io:
    credentials: {{helper: ecr-login}}
    on_missing_repository: {{command: [make-it, "--now"]}}
defaults: {{referrers: true, platforms: all, overwrite: if-missing}}
mirrors:
  - from: registry-a:5000/team/**
    to: [registry-b:5000/copy/{{path}}, backup:5000/{{registry}}/{{path}}]
    tags: {{include: ["v*"], exclude: ["*-rc*"], regex: "", semver: ">=1.20 <2", latest: 5, sort: semver, since: 90d}}
    platforms: [linux/amd64, linux/arm64]
    prune: {{enabled: false, max: 10%, keep: ["stable-*"]}}
  - image: registry-a:5000/app@{DIGESTS[0]}
    to: [registry-b:5000/app:1.2]
    overwrite: never
"""


class Folder:
    """A folder with a mirror file in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = path / "mirror.yaml"

    def put(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def load(self, text: str | bytes, **environ: str) -> MirrorSpec:
        self.spec.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_mirror(self.spec, environ=environ)

    def rules(self, *entries: str) -> tuple[Rule, ...]:
        return self.load("version: 1\nmirrors:\n" + "".join(f"  - {entry}\n" for entry in entries)).rules

    def error(self, text: str | bytes, **environ: str) -> str:
        """What is wrong with it, after the file's name."""
        with pytest.raises(InvalidMirrorSpec) as caught:
            self.load(text, **environ)
        return str(caught.value).removeprefix(f"{self.spec}:")


def registry(text: str) -> str:
    return f"version: 1\nregistries:\n  a:5000:\n    {text}\nmirrors: [{{from: a:5000/x, to: b:5000/x}}]\n"


def problem(load_it: Callable[[], object]) -> str | None:
    """What is wrong; only the one kind of error may say so."""
    try:
        load_it()
    except InvalidMirrorSpec as exc:
        return str(exc)
    return None


words = st.sampled_from(["version", "registries", "defaults", "mirrors", "from", "to", "tags", "image", "credentials"])
scalars = (
    st.sampled_from(["1", "true", "''", "~", "a:5000/x", "b:5000/{path}", "'{1}'", "*a", "&a x", "!t x", "v*", "90d"])
    | st.text(max_size=8).map(repr)
    | st.integers().map(str)
)
nodes = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(words | scalars, inner), max_size=3).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items) + "}"
        )
    ),
    max_leaves=12,
)
texts = (
    nodes.map(lambda text: f"version: 1\nmirrors:\n- {text}\n")
    | nodes.map(lambda text: f"version: 1\nregistries: {{a:5000: {text}}}\nmirrors: [{{from: a/x, to: b:1/x}}]\n")
    | nodes.map(lambda text: f"version: 1\nmirrors: [{{from: a/x, to: b:1/x, tags: {text}, prune: {text}}}]\n")
    | nodes
    | st.text(alphabet="{}[]&*!|>-?:,#%@`'\" \n\tab1\\", max_size=60)
)
hostile = texts.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=80)
"""Contents that look like mirror files, and others."""
