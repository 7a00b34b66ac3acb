"""``skopeo sync --src yaml``: registries, and below them repositories with tags, expressions or versions.

(skopeo-sync(1), "YAML file content"; ``cmd/skopeo/sync.go``.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncrane.errors import InvalidInput, InvalidReference
from asyncrane.mirror.convert import patterns
from asyncrane.mirror.convert.reading import boolean, others, section, string, strings
from asyncrane.mirror.convert.writing import Draft, destination_for, host_of, shown
from asyncrane.oci.reference import Reference, Repository

_SELECTIONS = ("images", "images-by-tag-regex", "images-by-semver")
_KEYS = frozenset({*_SELECTIONS, "credentials", "tls-verify", "cert-dir"})


def recognised(fields: Mapping[str, Any]) -> bool:
    """Whether this is such a file: under every key, a registry's, an object with one of its keys."""
    return bool(fields) and all(_KEYS & section(value).keys() for value in fields.values())


def convert(fields: Mapping[str, Any], draft: Draft, *, destination: str | None) -> None:
    """Put into ``draft`` what the file means.

    :raises InvalidInput: without a ``destination``, which skopeo is given on its command line
    """
    if not destination:
        raise InvalidInput("a skopeo sync file does not say where to, skopeo's command line does: give --to HOST/PATH")
    draft.note(
        "skopeo sync without --all copies the image of one platform; this copies all (see 'platforms'), "
        "and what is attached to images (see 'referrers')"
    )
    taken: dict[str, str] = {}
    for name, value in fields.items():
        host = host_of(name)
        if host is None:
            draft.note("left out: a registry whose name is none")
            continue
        _registry(host, section(value), draft)
        _Images(host, destination, draft, taken).add(section(value))


def _registry(host: str, value: Mapping[str, Any], draft: Draft) -> None:
    credentials = section(value.get("credentials"))
    if username := string(credentials.get("username")):
        draft.login(host, username)
    if string(credentials.get("identitytoken")) or string(credentials.get("identity_token")):
        draft.note(f"{host}: the identity token is not taken over: log in with 'asyncrane auth login {host}'")
    if boolean(value.get("tls-verify")) is False:
        draft.tls(host, insecure=True)
    if directory := string(value.get("cert-dir")):
        _certificates(host, Path(directory), draft)
    for key in others(value, _KEYS):
        draft.note(f"{host}: {key!r} is not known here, and left out")


def _certificates(host: str, directory: Path, draft: Draft) -> None:
    """One file of a kind is taken (containers-certs.d(5)); of several, or none, a person must say which."""
    kinds = {"ca": "*.crt", "cert": "*.cert", "key": "*.key"}
    found = {name: sorted(directory.glob(pattern)) for name, pattern in kinds.items()}
    if any(found.values()) and all(len(files) < 2 for files in found.values()):
        draft.tls(host, **{name: str(files[0]) for name, files in found.items() if files})
    else:
        draft.note(f"{host}: cert-dir {directory}: name its files under 'tls': ca, cert and key")


class _Images:
    """The images of one registry; ``taken`` says which repository goes where, for all registries."""

    def __init__(self, host: str, destination: str, draft: Draft, taken: dict[str, str]) -> None:
        self._host = host
        self._destination = destination
        self._draft = draft
        self._taken = taken

    def add(self, value: Mapping[str, Any]) -> None:
        """Everything that is selected."""
        if not any(section(value.get(key)) for key in _SELECTIONS):
            self._draft.note(f"{self._host}: no images are named")
        for name, references in section(value.get("images")).items():
            if place := self._place(name):
                self._named(*place, strings(references))
        for name, regex in section(value.get("images-by-tag-regex")).items():
            if place := self._place(name):
                self._expression(*place, string(regex))
        for name, text in section(value.get("images-by-semver")).items():
            if place := self._place(name):
                self._versions(*place, string(text))

    def _place(self, name: str) -> tuple[str, str] | None:
        try:
            repository = Repository.parse(f"{self._host}/{name}")
        except InvalidReference:
            self._draft.note(f"{self._host}: left out: {name!r} is not a repository's name")
            return None
        source, to = shown(repository), destination_for(self._destination, repository)
        other = self._taken.setdefault(to, source)
        if other != source and "{" not in to:
            self._draft.note(f"{source} and {other} both go to {to}: skopeo's --scoped, here 'to: [.../{{path}}]'")
        return source, to

    def _named(self, source: str, to: str, references: list[str]) -> None:
        if not references:
            self._draft.repository(source, [to])
        for text in references:
            try:
                image = Reference.parse(f"{source}{'@' if ':' in text else ':'}{text}")
            except InvalidReference:
                self._draft.note(f"{source}: left out: {text!r} is neither a tag nor a digest")
                continue
            self._draft.image(shown(image), [to])

    def _expression(self, source: str, to: str, regex: str) -> None:
        if patterns.matches_all(regex):
            self._draft.repository(source, [to])
            return
        try:
            self._draft.repository(source, [to], tags={"regex": patterns.searched(regex)})
        except patterns.Untranslatable as exc:
            self._draft.note(f"{source}: left out: {exc}")

    def _versions(self, source: str, to: str, text: str) -> None:
        try:
            self._draft.repository(source, [to], tags={"semver": patterns.version_range(text)})
        except patterns.Untranslatable as exc:
            self._draft.note(f"{source}: left out: {exc}")
