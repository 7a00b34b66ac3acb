"""The mirror file that a conversion makes: put together piece by piece, with notes on what got lost."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

from asyncrane.errors import InvalidReference
from asyncrane.mirror.rename import Template
from asyncrane.oci.reference import DOCKER_HUB, Reference, Repository, parse_registry

_WIDTH = 110
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z][A-Za-z0-9_-]*)*")
_NAME = re.compile(r"[a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]+)+(?::[A-Za-z0-9._-]+)?(?:@sha256:[0-9a-f]{64})?")


class Draft:
    """What is to be written. Nothing secret may be handed to it: all of it is printed."""

    def __init__(self) -> None:
        self.defaults: dict[str, Any] = {}
        self._registries: dict[str, dict[str, Any]] = {}
        self._mirrors: list[dict[str, Any]] = []
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What has no equivalent, and what is left to do by hand; each once."""
        return tuple(self._notes)

    def note(self, text: str) -> None:
        """Say something to whoever reads the result."""
        self._notes[" ".join(text.split())] = None  # in a comment no line may end where it should not

    def registry(self, host: str) -> dict[str, Any]:
        """The entry of ``host`` under ``registries``."""
        return self._registries.setdefault(host, {})

    def login(self, host: str, username: str, *, variable: str = "", file: str = "") -> None:
        """Log in to ``host`` with a password from a ``file`` or from the environment. With neither it was written in
        the converted file, and gets a ``variable`` of its own.
        """
        if ":" in username:
            self.note(f"{host}: the login is left out: a user name has no colon")
            return
        credentials = {"username": username}
        if file:
            credentials["password_file"] = file
        else:
            credentials["password_env"] = variable or self._own_variable(host)
        self.registry(host)["credentials"] = credentials

    def _own_variable(self, host: str) -> str:
        variable = f"{re.sub(r'[^A-Za-z0-9]+', '_', host).strip('_').upper()}_PASSWORD"
        if variable[0].isdigit():
            variable = f"_{variable}"
        self.note(f"{host}: the password is not taken over: put it into the environment variable {variable}")
        return variable

    def tls(self, host: str, **settings: object) -> None:
        """Settings of ``host`` under ``tls``."""
        self.registry(host).setdefault("tls", {}).update(settings)

    def repository(self, source: str, to: Sequence[str], **more: object) -> None:
        """Mirror every tag of a pattern's repositories, or what ``tags`` in ``more`` says."""
        self._add({"from": source}, to, more)

    def image(self, image: str, to: Sequence[str], **more: object) -> None:
        """Mirror one image."""
        self._add({"image": image}, to, more)

    def matching(self, registry: str, regex: str, to: Sequence[str], **more: object) -> None:
        """Mirror the repositories of ``registry`` whose whole path matches ``regex``."""
        self._add({"from": {"registry": registry, "regex": regex}}, to, more)

    def _add(self, subject: Mapping[str, object], to: Sequence[str], more: Mapping[str, object]) -> None:
        """What differs from the entry before in its destinations only is the same entry.

        :raises InvalidMirrorSpec: when a destination cannot be one
        """
        given = {name: value for name, value in more.items() if value not in (None, {}, [], ())}
        entry = {**subject, "to": [Template.parse(one).text for one in to], **given}
        before = self._mirrors[-1] if self._mirrors else {}
        if {**before, "to": None} == {**entry, "to": None}:
            before["to"] += [one for one in to if one not in before["to"]]
        else:
            self._mirrors.append(entry)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to mirror."""
        return not self._mirrors

    def text(self, origin: str) -> str:
        """The file, with a comment that says what it was made from and what is missing."""
        root: dict[str, Any] = {"version": 1}
        if self._registries:
            root["registries"] = self._registries
        if self.defaults:
            root["defaults"] = self.defaults
        root["mirrors"] = self._mirrors
        yaml = YAML()
        yaml.width = _WIDTH
        yaml.indent(mapping=2, sequence=4, offset=2)
        written = io.StringIO()
        yaml.dump(_styled(root, 0), written)
        return self._header(origin) + written.getvalue()

    def _header(self, origin: str) -> str:
        lines = [f"A mirror file for asyncrane, converted from {origin}."]
        if self._notes:
            lines.append("What has no equivalent, or is left to do:")
        wrapped = [line for text in lines for line in textwrap.wrap(text, _WIDTH)]
        for note in self._notes:
            wrapped += textwrap.wrap(note, _WIDTH, initial_indent="- ", subsequent_indent="  ")
        return "".join(f"# {line}\n" for line in wrapped)


def shown(name: Repository | Reference | str) -> str:
    """A name as people write it: Docker Hub is ``docker.io``."""
    return re.sub(rf"^{re.escape(DOCKER_HUB)}(?=/|$)", "docker.io", str(name))


def host_of(text: object) -> str | None:
    """``text`` as the name of a registry, without a scheme; ``None`` when it is none."""
    if not isinstance(text, str):
        return None
    try:
        return shown(parse_registry(re.sub(r"^https?://", "", text).rstrip("/")))
    except InvalidReference:
        return None


def destination_for(base: str, repository: Repository) -> str:
    """Where ``repository`` goes below ``base``; a base with ``{...}`` in it is a template as it is.

    :raises InvalidMirrorSpec: when there can be nothing there
    """
    to = base if "{" in base else f"{base.rstrip('/')}/{repository.path.rpartition('/')[2]}"
    return Template.parse(to).text


def _styled(value: Any, depth: int) -> Any:
    """Blocks outside, one line for what is inside of an entry."""
    if isinstance(value, Mapping):
        mapping = CommentedMap((name, _styled(inner, depth + 1)) for name, inner in value.items())
        if depth >= 3:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(_styled(inner, depth + 1) for inner in value)
        if depth >= 2:
            sequence.fa.set_flow_style()
        return sequence
    return _scalar(value)


def _scalar(value: Any) -> Any:
    """Tags such as ``1.0`` and versions such as ``>=1`` are quoted, lest they be read as something else."""
    if not isinstance(value, str) or _WORD.fullmatch(value) or _NAME.fullmatch(value):
        return value
    return SingleQuotedScalarString(value) if "\\" in value else DoubleQuotedScalarString(value)
