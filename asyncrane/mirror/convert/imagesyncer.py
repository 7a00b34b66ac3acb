"""image-syncer: a file of logins and a file of rules, or both in one (its README, "Configure Files")."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from asyncrane.errors import InvalidInput
from asyncrane.mirror.convert import patterns
from asyncrane.mirror.convert.reading import boolean, others, section, string, strings
from asyncrane.mirror.convert.writing import Draft, host_of, shown
from asyncrane.oci.reference import Reference, Repository

_LOGIN = frozenset({"username", "password", "insecure"})
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def is_logins(fields: Mapping[str, Any]) -> bool:
    """Whether this is the file of logins."""
    logins = [section(value) for value in fields.values()]
    return bool(logins) and all(login and login.keys() <= _LOGIN for login in logins)


def is_rules(fields: Mapping[str, Any]) -> bool:
    """Whether this is the file of rules."""
    return bool(fields) and all(
        isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(to, str) for to in value))
        for value in fields.values()
    )


def is_both(fields: Mapping[str, Any]) -> bool:
    """Whether this is the older form, with both in one file."""
    return (
        bool(fields.keys() & {"auth", "images"})
        and fields.keys() <= {"auth", "images"}
        and (not fields.get("images") or is_rules(section(fields["images"])))
    )


def convert(logins: Mapping[str, Any], rules: Mapping[str, Any], draft: Draft) -> None:
    """Put into ``draft`` what the files mean.

    :raises InvalidInput: when there are no rules
    """
    if not rules:
        raise InvalidInput("image-syncer: the file of logins needs the file of images beside it")
    draft.note("image-syncer's options --os and --arch are 'platforms' here, and --force is 'overwrite: always'")
    draft.note("what is attached to images goes along, which image-syncer leaves behind (see 'referrers')")
    for name, login in logins.items():
        _login(name, section(login), draft)
    for source, to in rules.items():
        destinations = strings(to)
        if any(_VARIABLE.search(text) for text in destinations):
            draft.note(f"{source}: left out: a destination is taken from the environment")
            continue
        for destination in dict.fromkeys(destinations):
            try:
                _rule(source, destination, draft)
            except InvalidInput as exc:
                draft.note(f"{source}: left out: {exc}")


def _login(name: str, login: Mapping[str, Any], draft: Draft) -> None:
    host = host_of(name)
    if host is None:
        where = host_of(name.partition("/")[0])
        draft.note(
            f"{where}: a login for some of its repositories only is left out: there is one login for a registry"
            if where
            else "left out: a login for what is no registry"
        )
        return
    username, password = string(login.get("username")), string(login.get("password"))
    if _VARIABLE.search(username):
        draft.note(f"{host}: the user name is taken from the environment: write it into the file")
    elif username:
        variable = _VARIABLE.fullmatch(password)
        draft.login(host, username, variable=(variable[1] or variable[2]) if variable else "")
    if boolean(login.get("insecure")):
        draft.tls(host, insecure=True)
    for key in others(login, _LOGIN):
        draft.note(f"{host}: {key!r} is not known here, and left out")


def _rule(source: str, destination: str, draft: Draft) -> None:
    """One source and one destination.

    :raises InvalidInput: when one is none, or cannot be said here
    """
    name, tags, digest, regex = _parts(source)
    to, to_tags, to_digest, to_regex = _parts(destination)
    if to_regex or (to_digest and to_digest != digest):
        raise patterns.Untranslatable(f"{destination!r} cannot be a destination of it")
    if digest:
        draft.image(f"{shown(name)}@{digest}", [shown(to)])
    elif tags:
        _tags(name, tags, to, to_tags, draft)
    elif to_tags:
        raise patterns.Untranslatable("all tags of a repository cannot become some tags of another")
    elif regex and not patterns.matches_all(regex):
        draft.repository(shown(name), [shown(to)], tags={"regex": patterns.searched(regex)})
    else:
        draft.repository(shown(name), [shown(to)])


def _tags(name: Repository, tags: Sequence[str], to: Repository, to_tags: Sequence[str], draft: Draft) -> None:
    """Tags keep their names, or get others, the first the first."""
    if to_tags and len(to_tags) != len(tags):
        raise patterns.Untranslatable(f"{len(tags)} tags cannot become {len(to_tags)}")
    for tag, new in zip(tags, to_tags or tags, strict=True):
        draft.image(shown(name.tag(tag)), [shown(to.tag(new) if new != tag else to)])


def _parts(text: str) -> tuple[Repository, Sequence[str], str, str]:
    """The repository, its tags, its digest, its regular expression: at most one of these three is there.

    :raises InvalidReference: when it is none of image-syncer's names
    """
    head, found, regex = text.partition(":/")
    if found and regex.endswith("/"):
        return Repository.parse(head), (), "", regex[:-1]
    head, *more = text.split(",")
    if "@" not in head and ":" not in head.rpartition("/")[2] and not more:
        return Repository.parse(head), (), "", ""
    image = Reference.parse(head)
    if image.digest is not None:
        return image.repository, (), str(image.digest), ""
    return image.repository, [str(image.tag), *(str(image.repository.tag(tag).tag) for tag in more)], "", ""
