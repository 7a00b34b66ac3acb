"""Changing what a config and annotations say, layers left alone. What a config has besides is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from asyncrane.errors import InvalidInput
from asyncrane.images.history import EPOCH, HistoryEntry, aligned, check_moment
from asyncrane.images.rebuild import each, rebuilt, relabelled
from asyncrane.images.serialise import items, table
from asyncrane.images.view import Image, Index, View, images
from asyncrane.oci.platform import Platform

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(?:tcp|udp|sctp))?")


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; what is not named stays.

    ``None`` leaves a setting as it is, an empty one takes it away. A new ``entrypoint`` takes the old ``cmd`` away, as
    its arguments are another program's. ``exposed_ports`` (``80``, ``53/udp``) are all there will be. ``created`` is
    RFC 3339 text. Variables of ``env`` keep their place, new ones go last. With ``history`` the change is noted in the
    history, as a step that made no layer; without it, as in crane, nothing is noted.
    """

    labels: Mapping[str, str] = {}
    unset_labels: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
    unset_annotations: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    unset_env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str | None = None
    workdir: str | None = None
    exposed_ports: tuple[str, ...] | None = None
    platform: Platform | None = None
    created: str | None = None
    history: HistoryEntry | None = None

    def check(self) -> None:
        """See whether all this can be said.

        :raises InvalidInput: when a variable's name, a port or a time is none
        """
        for name in (*self.env, *self.unset_env):
            if not name or "=" in name or "\0" in name:
                raise InvalidInput(f"not the name of an environment variable: {name!r}")
        for port in self.exposed_ports or ():
            found = _PORT.fullmatch(port)
            if not found or not all(0 < int(number) < 65536 for number in found.groups() if number):
                raise InvalidInput(f"not a port: {port!r} (expected NUMBER[/tcp|/udp|/sctp])")
        if self.created is not None:
            check_moment(self.created)
        if self.history is not None:
            self.history.check()


def mutate(view: View, changes: Changes) -> View:
    """``view`` with ``changes`` made to every image in it; annotations also to the index itself.

    :raises InvalidInput: when a change cannot be said, or several images were all to be for one platform
    """
    changes.check()
    if changes.platform is not None and isinstance(view, Index) and len(list(images(view))) > 1:
        raise InvalidInput(f"an index of several images cannot be for {changes.platform!s} as a whole")
    changed = each(view, lambda image: _mutate(image, changes))
    if isinstance(changed, Index) and (changes.annotations or changes.unset_annotations):
        annotations = _merged(changed.manifest.annotations, changes.annotations, changes.unset_annotations)
        return relabelled(changed, annotations)
    return changed


def _mutate(image: Image, changes: Changes) -> Image:
    what = f"the config of {image.name}"
    fields, settings = image.fields(), image.settings()
    annotations = table(fields, "annotations", f"manifest {image.name}")
    _put(fields, "annotations", _merged(annotations, changes.annotations, changes.unset_annotations))
    runtime = table(settings, "config", what)
    _set_runtime(runtime, changes, what, windows=image.platform.os == "windows")
    if runtime or settings.get("config") is not None:
        settings["config"] = runtime
    if changes.created is not None:
        settings["created"] = changes.created
    if changes.platform is not None:
        _set_platform(settings, changes.platform)
    if changes.history is not None:
        default = HistoryEntry(created=changes.created or EPOCH, created_by="asyncrane mutate")
        entry = changes.history.otherwise(default).fields(empty_layer=True)
        history = items(settings, "history", what, dict)
        settings["history"] = [*aligned(history, len(image.manifest.layers())), entry]
    return rebuilt(image, fields=fields, settings=settings)


def _set_runtime(runtime: dict[str, Any], changes: Changes, what: str, *, windows: bool) -> None:
    labels = table(runtime, "Labels", what)
    _put(runtime, "Labels", _merged(labels, changes.labels, changes.unset_labels))
    env: list[str] = items(runtime, "Env", what, str)
    _put(runtime, "Env", _environment(env, changes, windows=windows))
    if changes.entrypoint is not None:
        _put(runtime, "Entrypoint", list(changes.entrypoint))
        runtime.pop("Cmd", None)
    if changes.cmd is not None:
        _put(runtime, "Cmd", list(changes.cmd))
    if changes.user is not None:
        _put(runtime, "User", changes.user)
    if changes.workdir is not None:
        _put(runtime, "WorkingDir", changes.workdir)
    if changes.exposed_ports is not None:
        _put(runtime, "ExposedPorts", {port: {} for port in changes.exposed_ports})


def _set_platform(settings: dict[str, Any], platform: Platform) -> None:
    settings["os"], settings["architecture"] = platform.os, platform.architecture
    _put(settings, "variant", platform.variant)
    _put(settings, "os.version", platform.os_version)
    _put(settings, "os.features", list(platform.os_features))


def _put(fields: dict[str, Any], key: str, value: Any) -> None:
    """Set ``key``; nothing is said by leaving it out, unless it was said in another way before."""
    if value:
        fields[key] = value
    elif fields.get(key):
        del fields[key]


def _merged(before: Mapping[str, str], new: Mapping[str, str], gone: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, value in {**before, **new}.items() if key not in gone or key in new}


def _environment(before: list[str], changes: Changes, *, windows: bool) -> list[str]:
    """Variables in their order. Windows does not tell upper from lower case: names are upper-cased there (as crane)."""

    def known(name: str) -> str:
        return name.upper() if windows else name

    new = {known(name): value for name, value in changes.env.items()}
    gone = {known(name) for name in changes.unset_env}
    after: dict[str, str] = {}
    for number, variable in enumerate(before):
        name = known(variable.partition("=")[0])
        if name in new:
            after[name] = f"{name}={new[name]}"
        elif name not in gone:
            after[f"{number}="] = variable
    return list((after | {name: f"{name}={value}" for name, value in new.items()}).values())
