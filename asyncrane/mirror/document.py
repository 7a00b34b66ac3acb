"""From a mirror file to its values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from asyncrane.mirror import entries, keys, settings
from asyncrane.mirror.keys import Context
from asyncrane.mirror.spec import MirrorSpec
from asyncrane.mirror.tree import Scalar, parse, read_text

VERSION = 1
"""The form of mirror files that this program reads."""


def load_mirror(path: Path, *, environ: Mapping[str, str] | None = None) -> MirrorSpec:
    """Read a mirror file, and the files it names: relative paths start at its folder. Passwords are taken from
    ``environ`` (the process's own by default) now.

    :raises InvalidMirrorSpec: when it, or a file it names, cannot be used; the message begins ``FILE:LINE:COLUMN:``
    """
    file = keys.fields(parse(read_text(path), str(path)), keys.FILE, "a mirror file")
    version = keys.needed(file, "version", "a mirror file")
    if not isinstance(version, Scalar) or version.integer != VERSION:
        raise version.error(f"expected version {VERSION}, the form that this program reads, not {version.kind}")
    context = Context(path.parent, os.environ if environ is None else environ)
    options = settings.registries(file.values["registries"], context) if "registries" in file.values else {}
    base = entries.defaults(file.values.get("defaults"))
    rules = [
        rule
        for entry in keys.items(keys.needed(file, "mirrors", "a mirror file"), "mirrors")
        for rule in entries.rules(entry, base, context)
    ]
    return MirrorSpec(tuple(rules), options, tuple(context.warnings), str(path))
