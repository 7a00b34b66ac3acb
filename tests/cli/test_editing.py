"""``edit config|manifest|fs``: in an editor, or by stdin; and ``completion``, which shells ask."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shlex
import sys
import tarfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncrane.archive.compression import Expanded, sniff
from asyncrane.oci.digest import Digest
from asyncrane.testing import FaultyRegistry
from tests.cli.conftest import LIMIT, Ended, Program, fill, run
from tests.images.samples import attested, image, index, sample, with_config
from tests.peers import require

ONE = sample(image("a", "b"))
BOTH = attested(sample(index("a")))


def config(registry: FaultyRegistry, repository: str, identifier: str) -> bytes:
    manifest = registry.get_manifest(repository, identifier)
    assert manifest is not None
    described = manifest.config()
    assert described is not None
    body = registry.get_blob(repository, described.digest)
    assert body is not None
    return body


def top(registry: FaultyRegistry, repository: str, identifier: str) -> tarfile.TarFile:
    """The uppermost layer."""
    manifest = registry.get_manifest(repository, identifier)
    assert manifest is not None
    blob = registry.get_blob(repository, manifest.layers()[-1].digest)
    assert blob is not None
    content = Expanded(io.BytesIO(blob), sniff(blob), "layer")
    return tarfile.open(fileobj=io.BytesIO(b"".join(iter(lambda: content.read(1 << 20), b""))))


async def at_a_terminal(program: Program, *arguments: str, editor: str) -> Ended:
    """Run the program where somebody sits, with an editor that does what Python ``editor`` does to ``text``."""
    script = program.home.parent / "editor.py"
    script.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[1])\ntext = path.read_text()\n{editor}\n")
    environ = {**program.environ, "EDITOR": shlex.join([sys.executable, str(script)])}
    ours, theirs = pty.openpty()
    try:
        with anyio.fail_after(LIMIT):
            ended = await anyio.run_process(
                program.command(*arguments), stdin=theirs, env=environ, check=False, start_new_session=True
            )
    finally:
        os.close(ours)
        os.close(theirs)
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode())


async def test_stdin_replaces_a_config_byte_for_byte(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", ONE, "1")
    before = registry.get_manifest("app", "1")
    edited = json.dumps({**json.loads(config(registry, "app", "1")), "author": "me", "own": {"x": 1}}, indent=3)
    ended = await program("edit", "config", name, "-t", f"{registry.address}/app:2", stdin=edited)
    assert (ended.code, ended.text) == (0, f"{registry.address}/app:2\n")
    assert config(registry, "app", "2").decode() == edited
    assert registry.get_manifest("app", "1") == before
    by_digest = await program("edit", "config", f"{registry.address}/app@{ONE.digest!s}", stdin=edited)
    assert by_digest.text.startswith(f"{registry.address}/app@sha256:")
    in_place = await program("edit", "config", name, stdin=edited)
    assert in_place.text == f"{name}\n"
    assert config(registry, "app", "1").decode() == edited


async def test_an_index_keeps_its_other_images(program: Program, registry: FaultyRegistry) -> None:
    """Trap: crane puts the one image over the index's tag. An attestation of what was edited goes, and that is said."""
    name = fill(registry, "app", BOTH, "1")
    arm = BOTH.manifest.children()[1]
    edited = json.dumps({**json.loads(config(registry, "app", str(arm.digest))), "author": "me"})
    ended = await program("edit", "config", name, "--platform", "linux/arm64", stdin=edited)
    assert (ended.code, ended.err) == (0, "1 attestation left out: about what was edited\n")
    after = registry.get_manifest("app", "1")
    assert after is not None
    amd, new, attestation = after.children()
    assert (amd, attestation) == (BOTH.manifest.children()[0], BOTH.manifest.children()[2])
    assert config(registry, "app", str(new.digest)).decode() == edited
    assert new.platform == arm.platform


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rootfs": {"type": "layers", "diff_ids": []}}, "has 0 diff_ids for 2 layers"),
        ({"rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"x"))] * 2}}, "for layer 0, which has sha256:"),
        ({"rootfs": {}}, "has 0 diff_ids for 2 layers"),
        (None, "is not JSON"),
    ],
)
async def test_a_config_that_does_not_fit_is_not_published(
    program: Program, registry: FaultyRegistry, changes: dict[str, Any] | None, says: str
) -> None:
    """crane publishes ``{}``."""
    name = fill(registry, "app", ONE, "1")
    edited = "" if changes is None else json.dumps({**json.loads(config(registry, "app", "1")), **changes})
    ended = await program("edit", "config", name, stdin=edited)
    assert (ended.code, ended.out) == (5, b"")
    assert says in ended.error
    assert registry.requests(method="PUT") == []


async def test_wrong_diff_ids_can_be_put_right(program: Program, registry: FaultyRegistry) -> None:
    """The layers are read to see what is right."""
    right = config_of(ONE)
    wrong = with_config(ONE, rootfs={"type": "layers", "diff_ids": [str(Digest.of(b"x"))] * 2})
    name = fill(registry, "app", wrong, "1")
    ended = await program("edit", "config", name, stdin=right)
    assert (ended.code, config(registry, "app", "1").decode()) == (0, right)
    assert (await program("validate", "--remote", name)).code == 0


def config_of(of: Any) -> str:
    described = of.manifest.config()
    return str(of.blobs[described.digest].decode())


async def test_an_editor_gets_the_config_and_gives_it_back(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", ONE, "1")
    ended = await at_a_terminal(
        program, "edit", "config", name, editor='path.write_text(text.replace(\'"os"\', \'"author":"me","os"\'))'
    )
    assert (ended.code, ended.err, ended.text) == (0, "", f"{name}\n")
    assert json.loads(config(registry, "app", "1"))["author"] == "me"


async def test_an_editor_that_fails_changes_nothing(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", ONE, "1")
    ended = await at_a_terminal(program, "edit", "manifest", name, editor="path.write_text('{}'); sys.exit(3)")
    assert ended.code == 1
    assert ended.error.endswith("ended with 3: nothing was changed")
    assert registry.requests(method="PUT") == []


async def test_a_manifest_is_replaced_byte_for_byte(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", ONE, "1")
    edited = json.dumps({**ONE.manifest.fields(), "annotations": {"a": "b"}}, indent=1)
    ended = await program("edit", "manifest", name, "-t", f"{registry.address}/other:2", stdin=edited)
    assert (ended.code, ended.text) == (0, f"{registry.address}/other:2\n")
    after = registry.get_manifest("other", "2")
    assert after is not None
    assert after.body.decode() == edited
    assert (await program("validate", "--remote", f"{registry.address}/other:2")).code == 0


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda fields: fields["layers"][0].update(digest=str(Digest.of(b"x"))), "names what is not there"),
        (lambda fields: fields["layers"][0].update(size=1), "says 1 bytes of sha256:"),
        (lambda fields: fields.update(manifests=[]), "image and an index at once"),
        (lambda fields: fields.update(layers=7), "is not a list"),
        (lambda fields: fields.clear(), "no known kind of manifest"),
    ],
)
async def test_a_manifest_that_cannot_be_is_not_published(
    program: Program, registry: FaultyRegistry, edit: Any, says: str
) -> None:
    name = fill(registry, "app", ONE, "1")
    fields = ONE.manifest.fields()
    edit(fields)
    if not fields:
        fields = {"mediaType": "text/plain"}
    ended = await program("edit", "manifest", name, stdin=json.dumps(fields))
    assert (ended.code, ended.out) == (5, b"")
    assert says in ended.error
    assert registry.requests(method="PUT") == []


async def test_a_media_type_must_be_a_manifests(program: Program, registry: FaultyRegistry) -> None:
    name = fill(registry, "app", ONE, "1")
    body = ONE.manifest.body.decode()
    ended = await program("edit", "manifest", name, "-m", "text/plain", stdin=body)
    assert ended.code == 2
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    ended = await program("edit", "manifest", name, "-m", docker, stdin=body)
    assert ended.code == 5
    assert "and was to be" in ended.error


async def test_a_file_from_stdin_is_a_layer_on_every_image(program: Program, registry: FaultyRegistry) -> None:
    """K1; crane's mode, and no leading slash, which other programs warn of."""
    name = fill(registry, "app", BOTH, "1")
    ended = await program("edit", "fs", name, "-f", "/etc//./motd", stdin="hello\n")
    assert (ended.code, ended.text) == (0, f"{name}\n")
    after = registry.get_manifest("app", "1")
    assert after is not None
    assert len(after.children()) == 2
    for child in after.children():
        with top(registry, "app", str(child.digest)) as layer:
            (entry,) = layer.getmembers()
            assert (entry.name, entry.mode, entry.uid, entry.mtime) == ("etc/motd", 0o555, 0, 0)
            content = layer.extractfile(entry)
            assert content is not None
            assert content.read() == b"hello\n"
    again = await program("edit", "fs", name, "-f", "etc/motd", "--platform", "linux/amd64", stdin="x", NO_COLOR="1")
    assert again.code == 0
    third = registry.get_manifest("app", "1")
    assert third is not None
    assert third.children()[1] == after.children()[1]


async def test_an_edited_file_keeps_its_mode_and_owner(
    program: Program, registry: FaultyRegistry, tmp_path: Path
) -> None:
    name = fill(registry, "app", ONE, "1")
    with tarfile.open(tmp_path / "new.tar", "w") as made:
        entry = tarfile.TarInfo("./etc/motd")
        entry.size, entry.mode, entry.uid, entry.mtime, entry.uname = 4, 0o640, 7, 99, "daemon"
        made.addfile(entry, io.BytesIO(b"old\n"))
        link = tarfile.TarInfo("etc/link")
        link.type, link.linkname = tarfile.SYMTYPE, "motd"
        made.addfile(link)
    assert (await program("append", "-b", name, "-f", str(tmp_path / "new.tar"), "-t", name)).code == 0
    ended = await at_a_terminal(
        program, "edit", "fs", name, "-f", "/etc/motd", editor="path.write_text(text + 'new\\n')"
    )
    assert (ended.code, ended.err) == (0, "")
    with top(registry, "app", "1") as layer:
        (entry,) = layer.getmembers()
        assert (entry.mode, entry.uid, entry.mtime, entry.uname) == (0o640, 7, 99, "daemon")
        content = layer.extractfile(entry)
        assert content is not None
        assert content.read() == b"old\nnew\n"
    puts = len(registry.requests(kind="upload-put"))
    ended = await at_a_terminal(program, "edit", "fs", name, "-f", "/etc/motd", editor="pass")
    assert (ended.code, len(registry.requests(kind="upload-put"))) == (0, puts)
    ended = await at_a_terminal(program, "edit", "fs", name, "-f", "/etc/link", editor="pass")
    assert ended.error == "asyncrane: error: /etc/link is a link to motd: edit that"


@pytest.mark.parametrize("path", ["", "/", "../x", "a/../../x", "dir/"])
async def test_a_path_that_is_no_files_is_refused(program: Program, registry: FaultyRegistry, path: str) -> None:
    ended = await program("edit", "fs", fill(registry, "app", ONE, "1"), "-f", path, stdin="x")
    assert (ended.code, registry.requests(method="PUT")) == (2, [])
    assert ended.error


async def test_crane_takes_what_was_edited(program: Program, registry: FaultyRegistry) -> None:
    crane = str(require("crane"))
    name = fill(registry, "app", ONE, "1")
    await program("edit", "fs", name, "-f", "/etc/motd", stdin="hello\n")
    edited = json.dumps({**json.loads(config(registry, "app", "1")), "author": "me"})
    await program("edit", "config", name, stdin=edited)
    assert (await run([crane, "validate", "--remote", name], program.environ)).text == f"PASS: {name}\n"
    assert (await run([crane, "config", name], program.environ)).text == edited
    files = await run([crane, "export", name, "-"], program.environ)
    with tarfile.open(fileobj=io.BytesIO(files.out)) as exported:
        found = exported.extractfile("etc/motd")
        assert found is not None
        assert found.read() == b"hello\n"


async def test_bash_takes_the_completion_and_gets_answers(program: Program, tmp_path: Path) -> None:
    require("bash", package="bash")
    command = tmp_path / "asyncrane"
    command.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-m", "asyncrane"])} "$@"\n')
    command.chmod(0o755)
    ask = (
        "source <(asyncrane completion bash); complete -p asyncrane; "
        "COMP_WORDS=(asyncrane index app); COMP_CWORD=2; _asyncrane_completion asyncrane; echo ${COMPREPLY[@]}"
    )
    environ = {**program.environ, "PATH": f"{tmp_path}:{program.environ['PATH']}"}
    ended = await run(["bash", "--norc", "-c", ask], environ)
    assert (ended.code, ended.err) == (0, "")
    assert ended.text == "complete -o default -F _asyncrane_completion asyncrane\nappend\n"


@pytest.mark.parametrize(
    ("shell", "says"),
    [("zsh", "compdef"), ("fish", "complete --command"), ("powershell", "Register-ArgumentCompleter")],
)
async def test_other_shells_have_their_own(program: Program, shell: str, says: str) -> None:
    ended = await program("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert says in ended.text
    assert (await program("completion", "csh")).code == 2


@pytest.mark.parametrize(
    ("shell", "words", "answer"),
    [
        ("bash", ("--no-descriptions",), "append\n"),
        ("zsh", ("--no-descriptions",), """_arguments '*: :(("append"))'\n"""),
        ("fish", (), "append\tMake an index of images, or add images to...\n"),
        ("fish", ("--no-descriptions",), "append\n"),
        ("powershell", ("--no-descriptions",), "append::: \n"),
    ],
    ids=["bash", "zsh", "fish, described", "fish", "powershell"],
)
async def test_shells_may_ask_for_words_only(program: Program, shell: str, words: tuple[str, ...], answer: str) -> None:
    """The script sets a variable when its shell asks; by that it is known whether to say what words mean."""
    script = await program("completion", shell, *words)
    variable = re.search(rf"(\w+)(?: = \"|=)complete_{shell}", script.text)
    assert variable is not None
    asked = {
        "COMP_WORDS": "asyncrane index app",
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": "asyncrane index app",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "app",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    ended = await program.process(**asked, **{variable[1]: f"complete_{shell}"})
    assert (ended.code, ended.text, ended.err) == (0, answer, "")
