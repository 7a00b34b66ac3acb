"""Reading and writing the JSON of manifests and configs: what is not touched keeps its place and its value, and the
same edit gives the same bytes everywhere.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from asyncrane.archive.packing import Layer
from asyncrane.errors import ContentError
from asyncrane.images.family import LAYERS
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest


def encode(fields: dict[str, Any]) -> bytes:
    """``fields`` as compact JSON, keys in their order."""
    try:
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can say
        return json.dumps(fields, separators=(",", ":")).encode()


def decode(body: bytes, what: str) -> dict[str, Any]:
    """The JSON object in ``body``, numbers of any size included.

    :raises ContentError: when there is none; ``what`` says where it was to be
    """
    try:
        fields = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise ContentError(f"{what} is not JSON: {str(exc)[:120]}") from exc
    if not isinstance(fields, dict):
        raise ContentError(f"{what} is not a JSON object")
    return fields


def described(entry: dict[str, Any], content: bytes) -> dict[str, Any]:
    """The descriptor object ``entry`` with the digest and size of ``content``; an embedded copy is renewed, and
    ``urls`` of what it was before are left out.
    """
    changed = {key: value for key, value in entry.items() if key != "urls"}
    changed |= {"digest": str.__str__(Digest.of(content)), "size": len(content)}
    if "data" in entry:
        changed["data"] = base64.b64encode(content).decode()
    return changed


def written(descriptor: Descriptor) -> dict[str, Any]:
    """The descriptor object of a new blob."""
    return {
        "mediaType": descriptor.media_type,
        "digest": str.__str__(descriptor.digest),
        "size": descriptor.size,
    }


def layer_entry(layer: Layer) -> dict[str, Any]:
    """The descriptor object of a new layer, with OCI's type for it."""
    entry = written(Descriptor(LAYERS[layer.compression], layer.digest, layer.size))
    return {**entry, "annotations": dict(layer.annotations)} if layer.annotations else entry


def table(fields: dict[str, Any], key: str, what: str) -> dict[str, Any]:
    """A copy of the object ``fields[key]``, empty where there is none.

    :raises ContentError: when something else is there
    """
    found = fields.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ContentError(f"{what}: {key!r} is not a JSON object")
    return dict(found)


def items(fields: dict[str, Any], key: str, what: str, kind: type) -> list[Any]:
    """A copy of the list ``fields[key]``, empty where there is none.

    :raises ContentError: when it is no list, or holds anything but ``kind``
    """
    found = fields.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
        raise ContentError(f"{what}: {key!r} is not a list of JSON {_NAMES[kind]}")
    return list(found)


_NAMES: dict[type, str] = {str: "strings", dict: "objects"}


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")
