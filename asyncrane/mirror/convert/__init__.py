"""Other tools' files as mirror files: skopeo sync, regsync, image-syncer.

What has no equivalent is named, and no password is ever written anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from asyncrane.errors import InvalidInput
from asyncrane.mirror.convert import imagesyncer, regsync, skopeo
from asyncrane.mirror.convert.reading import read, section
from asyncrane.mirror.convert.writing import Draft


class Converted(msgspec.Struct, frozen=True):
    """A mirror file, and what in it is not as it was, or is left to do."""

    text: str
    notes: tuple[str, ...]


def mirror_convert(files: Sequence[Path], *, destination: str | None = None) -> Converted:
    """Read another tool's file, or image-syncer's two, and say the same as a mirror file.

    ``destination`` is where to, ``host[/path]`` or a template such as ``host/{path}``, for files that do not say so.

    :raises InvalidInput: when a file cannot be read, is of no kind that is known, or does not go with the others
    """
    draft = Draft()
    kinds: dict[str, Mapping[str, Any]] = {}
    for path in files:
        fields = read(path)
        kind = _kind(path, fields)
        if kind in kinds:
            raise InvalidInput(f"{path}: a second {kind} file: convert one at a time")
        kinds[kind] = fields
    match sorted(kinds):
        case ["skopeo sync"]:
            skopeo.convert(kinds["skopeo sync"], draft, destination=destination)
        case ["regsync"]:
            regsync.convert(kinds["regsync"], draft)
        case ["image-syncer"]:
            both = kinds["image-syncer"]
            imagesyncer.convert(section(both.get("auth")), section(both.get("images")), draft)
        case ["image-syncer images"] | ["image-syncer auth"] | ["image-syncer auth", "image-syncer images"]:
            rules, logins = kinds.get("image-syncer images", {}), kinds.get("image-syncer auth", {})
            imagesyncer.convert(logins, rules, draft)
        case []:
            raise InvalidInput("no file to convert")
        case several:
            raise InvalidInput(f"{' and '.join(several)} files do not belong together: convert one at a time")
    if destination and "skopeo sync" not in kinds:
        draft.note("the destination that was given is not used: the file says where to")
    if draft.empty:
        raise InvalidInput("; ".join([f"{files[0]}: nothing in it can be mirrored", *draft.notes]))
    origin = " and ".join(path.name for path in files)
    return Converted(draft.text(f"{'image-syncer' if 'image' in min(kinds) else min(kinds)}, {origin}"), draft.notes)


def _kind(path: Path, fields: Mapping[str, Any]) -> str:
    """Which tool's file it is, by what is in it."""
    if "mirrors" in fields and "version" in fields:
        raise InvalidInput(f"{path}: this is a mirror file already")
    if regsync.recognised(fields):
        return "regsync"
    if imagesyncer.is_both(fields):
        return "image-syncer"
    if imagesyncer.is_logins(fields):
        return "image-syncer auth"
    if imagesyncer.is_rules(fields):
        return "image-syncer images"
    if skopeo.recognised(fields):
        return "skopeo sync"
    raise InvalidInput(f"{path}: neither a skopeo sync file, nor a regsync.yml, nor one of image-syncer's files")
