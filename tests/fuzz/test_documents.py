"""Documents: manifests, configs, credentials, plans, journals, job files, users."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncrane.auth.dockerconfig import AuthFile, write_entry
from asyncrane.auth.helpers import Helpers
from asyncrane.engine.journal import Journal
from asyncrane.errors import AsyncraneError, ContentError, InvalidInput
from asyncrane.images.view import Image, load
from asyncrane.mirror.convert import mirror_convert
from asyncrane.mirror.history import explain
from asyncrane.mirror.plan import FORM, MirrorPlan
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.platform import Platform
from asyncrane.oci.select import strip
from asyncrane.operations.jobfile import parse_jobs
from asyncrane.server.htpasswd import HtpasswdUsers
from asyncrane.stores.memory import MemoryStore
from asyncrane.testing.images import random_image, random_index, reader
from tests.engine.journals import record
from tests.fuzz.hostile import changed, damaged, examples, refused, said, texts

IMAGE, INDEX = random_image("fuzz"), random_index("fuzz")
SCHEMA1 = {
    "schemaVersion": 1,
    "fsLayers": [{"blobSum": str(Digest.of(b""))}],
    "history": [{"v1Compatibility": "{}"}],
    "signatures": [{"protected": "eyJmb3JtYXRMZW5ndGgiOjF9", "signature": "x"}],
}
MANIFESTS = [json.loads(IMAGE.manifest.body), json.loads(INDEX.manifest.body), SCHEMA1]
KINDS = [*sorted(media.MANIFESTS), "", "text/plain", "application/json; charset=utf-8"]


@examples(80)
@given(changed(MANIFESTS), st.sampled_from(KINDS))
@example(b'{"fsLayers":[],"signatures":[{"protected":"eyJmb3JtYXRMZW5ndGgiOjFlOTk5LCJmb3JtYXRUYWlsIjoiIn0"}]}', "")
def test_any_manifest_is_understood_or_refused(body: bytes, kind: str) -> None:
    def look() -> None:
        manifest = Manifest.read(body, content_type=kind)
        assert manifest.body == body
        for part in (manifest.subject, manifest.config(), manifest.annotations, manifest.artifact_type):
            str(part)
        for found in (*manifest.children(), *manifest.blobs(), *manifest.layers()):
            assert Digest.parse(found.digest) == found.digest
        if manifest.is_index:
            strip(manifest, [Platform("linux", "amd64")])

    refused(look)


CONFIGS = [json.loads(blob) for blob in IMAGE.blobs.values() if blob[:1] == b"{"]


@examples(40)
@given(changed(CONFIGS))
async def test_any_config_is_understood_or_refused(config: bytes) -> None:
    digest = Digest.of(config)
    layers = json.loads(IMAGE.manifest.body)["layers"]
    described = {"mediaType": media.OCI_CONFIG, "digest": str(digest), "size": len(config)}
    body = json.dumps({"schemaVersion": 2, "config": described, "layers": layers}).encode()
    store = MemoryStore()
    await IMAGE.store(store)
    await store.put(Descriptor(media.OCI_CONFIG, digest, len(config)), reader(config))
    await store.publish(Manifest.read(body), "latest")
    try:
        await load(store, "latest", platforms=[Platform("linux", "amd64")])
        image = await load(store, "latest")
        assert isinstance(image, Image)
        assert len(image.diff_ids()) == len(layers)
    except AsyncraneError as exc:
        said(exc)


SECRET = "c2VjcmV0OnBhc3N3b3Jk"
AUTHS: list[Any] = [
    {
        "auths": {
            "a.example": {"auth": SECRET, "identitytoken": "t"},
            "https://index.docker.io/v1/": {"username": "u"},
        },
        "credHelpers": {"b.example": "ecr-login"},
        "credsStore": "x",
        "HttpHeaders": {"X-Meta": "v"},
    }
]


@examples(60)
@given(changed(AUTHS))
def test_any_docker_config_is_read_or_refused_without_showing_a_secret(tmp_path: Path, content: bytes) -> None:
    def look() -> None:
        file = AuthFile.parse(content, "config.json")
        for key in ("a.example", "index.docker.io", "b.example", ""):
            assert SECRET not in refused(partial(file.credential, key))
            file.helper(key)

    assert SECRET not in refused(look)
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert SECRET not in refused(lambda: write_entry(path, "a.example", {"auth": "eA=="}))


@examples(4)
@given(changed([{"Username": "u", "Secret": SECRET, "ServerURL": "a"}]), st.integers(0, 1))
@example(b'{"Username":' + b"[" * 100_000, 0)
async def test_whatever_a_helper_prints_is_a_credential_or_an_error(tmp_path: Path, said_by: bytes, code: int) -> None:
    program = tmp_path / "docker-credential-fuzz"
    (tmp_path / "answer").write_bytes(said_by)
    program.write_text(f"#!/bin/sh\ncat >/dev/null\ncat '{tmp_path}/answer'\nexit {code}\n")
    program.chmod(0o755)
    problem = ""
    helpers = Helpers(environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    try:
        await helpers.get("fuzz", "a.example")
    except AsyncraneError as exc:
        problem = said(exc)
    assert SECRET not in problem


def plan() -> Any:
    image = {"source": "a.example/x", "tag": "1", "digest": str(Digest.of(b"")), "targets": [{"place": "b.example/y"}]}
    return {"form": FORM, "images": [image]}


@examples(60)
@given(changed([plan()]))
def test_any_plan_is_read_or_refused(content: bytes) -> None:
    refused(lambda: MirrorPlan.decode(content, name="plan.json"))


@cache
def journal() -> bytes:
    """A journal with one run in it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "j.db"
        written = Journal.open(path)
        record(written)
        written.close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        return path.read_bytes()


@examples(15)
@given(st.deferred(lambda: damaged([journal()])))
def test_any_journal_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(content)

    def look() -> None:
        journal = Journal.read(path)
        try:
            for run in journal.runs():
                str(run)
                refused(lambda: explain(journal, 1, "x"))
        finally:
            journal.close()

    refused(look)


JOBS = [
    {"copy": "a.example/x:1", "to": ["b.example/x:1"], "platforms": ["linux/amd64"]},
    {"rebase": "a.example/x:1", "to": "b.example/x:1", "new_base": "a.example/b:2", "old_base": "a.example/b:1"},
    {"mutate": "a.example/x:1", "to": "b.example/x:1", "labels": {"a": "b"}, "env": {"A": "b"}, "cmd": ["x"]},
    {"append": "a.example/x:1", "to": "b.example/x:1", "layers": ["x.tar"]},
]


@examples(60)
@given(changed(JOBS))
@example(b"{a: " + b"[" * 5_000)
@example(b"&a [*a]")
@example(b"!!python/object/apply:os.system ['false']")
@example(b"[&a [x,x,x,x], &b [*a,*a,*a,*a], &c [*b,*b,*b,*b]]")
def test_any_job_file_is_jobs_or_an_error(content: bytes) -> None:
    problem = refused(lambda: parse_jobs(content.decode(errors="replace"), "jobs"))
    assert "\n" not in problem


CONVERTED: list[Any] = [
    {"registry.example.com": {"images": {"busybox": ["1"], "x/y": []}, "images-by-tag-regex": {"z": "^1"}}},
    {
        "version": 1,
        "creds": [{"registry": "a.example", "user": "u", "pass": SECRET}],
        "sync": [{"source": "a/b", "target": "c/d", "type": "repository", "tags": {"allow": ["1.*"]}}],
    },
    {"auth": {"a.example": {"username": "u", "password": SECRET}}, "images": {"a.example/x:1,2": "b.example/y"}},
]


@examples(20)
@given(changed(CONVERTED, deep=False))  # tests/mirror/test_spec_errors.py has depth
def test_any_file_of_another_tool_is_converted_or_refused_without_its_secrets(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.yml"
    path.write_bytes(content)

    def look() -> None:
        converted = mirror_convert([path], destination="d.example")
        assert SECRET not in str(converted)

    assert SECRET not in refused(look)


USERS = [
    b"me:$2y$04$abcdefghijklmnopqrstuu5s0YsJY0ZfZB9pE2nDqmBzvsRkCGL2q\n",
    b"a:{SHA}x\nb:$apr1$salt$hash\n# c\nd:{PLAIN}e\n",
]


@examples(40)
@given(damaged(USERS) | texts.map(lambda text: f"u:$apr1${text}".encode(errors="replace")), texts)
def test_any_file_of_users_is_read_or_refused(tmp_path: Path, content: bytes, password: str) -> None:
    path = tmp_path / "htpasswd"
    path.write_bytes(content)

    def look() -> None:
        users = HtpasswdUsers.read(path)
        for name in ("me", "a", "b", "d", "u", ""):
            users.check(name, password.encode(errors="replace").decode())

    refused(look)


def test_nonsense_is_refused_as_what_it_is() -> None:
    """The functions above do look: one thing each that they must refuse, and why."""
    for why, wanted, work in (
        ("not JSON", ContentError, lambda: Manifest.read(b"[" * 100_000)),
        ("not a plan", InvalidInput, lambda: MirrorPlan.decode(b'{"a":' * 50_000, name="p")),
        ("neither JSON nor", InvalidInput, lambda: parse_jobs("{a: " + "[" * 5_000, "j")),
    ):
        with pytest.raises(wanted, match=why):
            work()
