"""What an OCI layout's ``index.json`` says: which images there are and what they are called.

(image-spec, image-layout.md, "index.json File"; ``org.opencontainers.image.ref.name`` in annotations.md.)

Entries are kept as they were found, with every field they have; what is not understood is carried along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from asyncrane.errors import AsyncraneError, ContentError, InvalidReference, NotFound
from asyncrane.oci import media
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.reference import Reference

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation with the image's name: mostly a tag, with ``crane pull --annotate-ref`` a whole reference."""

IMAGE_NAME = "io.containerd.image.name"
"""The annotation with the whole reference in archives of containerd and of docker 25 and later."""

LARGEST_INDEX = 64 * 1024 * 1024
"""Bytes of ``index.json`` that are read."""

_SHOWN = 20
"""Names that an error shows."""


class Entry(msgspec.Struct, frozen=True):
    """One image: its descriptor, and the JSON object that it was read from."""

    descriptor: Descriptor
    fields: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called, the fullest name first; nothing for an image without a name."""
        notes = self.descriptor.annotations
        return tuple(dict.fromkeys(name for key in (IMAGE_NAME, REF_NAME) if (name := notes.get(key))))

    @property
    def ref_name(self) -> str:
        """Its ``ref.name``, empty if it has none."""
        return self.descriptor.annotations.get(REF_NAME, "")


class ImageIndex:
    """The images of the layout at ``where``, in the order of the file. Changing it gives another one."""

    def __init__(self, where: str, fields: dict[str, Any], entries: Iterable[Entry], odd: Iterable[Any] = ()) -> None:
        self._where = where
        self._fields = fields
        self._odd = tuple(odd)
        self.entries = tuple(entries)

    @classmethod
    def empty(cls, where: str) -> ImageIndex:
        """That of a layout without images."""
        return cls(where, {"schemaVersion": 2, "mediaType": media.OCI_INDEX}, ())

    @classmethod
    def read(cls, body: bytes, where: str) -> ImageIndex:
        """The content of ``index.json``. An entry that cannot be used (a digest of an unknown kind) is no image here,
        and survives a change of the others.

        :raises ContentError: when it is no JSON object with a list of manifests
        """
        try:
            fields = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise ContentError(f"{where}: index.json is not JSON: {str(exc)[:120]}") from exc
        found = fields.get("manifests") if isinstance(fields, dict) else None
        if found is None and isinstance(fields, dict):
            found = []
        if not isinstance(found, list):
            raise ContentError(f"{where}: index.json has no list of manifests")
        entries, odd = [], []
        for item in found:
            try:
                entries.append(Entry(Descriptor.read(item), item))
            except ContentError:
                odd.append(item)
        return cls(where, fields, entries, odd)

    def body(self) -> bytes:
        """What to write into ``index.json``."""
        manifests = [*[entry.fields for entry in self.entries], *self._odd]
        return msgspec.json.encode({**self._fields, "manifests": manifests})

    # what there is

    def names(self) -> tuple[str, ...]:
        """What the images are called, each name once."""
        return tuple(dict.fromkeys(entry.names[0] for entry in self.entries if entry.names))

    def sole(self) -> Descriptor:
        """The image that is meant where none is named: the only one.

        :raises NotFound: when there is none
        :raises InvalidReference: when there are several; the message names them
        """
        found = _distinct(self.entries)
        if not found:
            raise NotFound(f"{self._where} holds no image", status=404)
        if len(found) > 1:
            raise InvalidReference(f"{self._where} holds {len(found)} images, say which one: {self._choice()}")
        return found[0]

    def find(self, name: str) -> Descriptor:
        """The image called ``name``: by this very name, else by a reference that means the same, else by its tag.

        :raises NotFound: when there is none; the message says what there is
        :raises InvalidReference: when it may be several
        """
        whole = _parsed(name)
        matches: tuple[Callable[[str], bool], ...] = (
            lambda other: other == name,
            lambda other: whole is not None and _parsed(other) == whole,
            lambda other: (parsed := _parsed(other)) is not None and parsed.tag == name,
        )
        for match in matches:
            found = _distinct(entry for entry in self.entries if any(match(other) for other in entry.names))
            if len(found) > 1:
                digests = ", ".join(f"@{descriptor.digest!s}" for descriptor in found)
                raise InvalidReference(f"{self._where} has {len(found)} images {name!r}, say which one: {digests}")
            if found:
                return found[0]
        raise NotFound(f"{self._where} has no image {name!r}; there is: {self._choice()}", status=404)

    def named(self, name: str) -> Descriptor | None:
        """The image whose ``ref.name`` is ``name``."""
        return next((entry.descriptor for entry in self.entries if entry.ref_name == name), None)

    def digest(self, digest: Digest) -> Descriptor | None:
        """The image with ``digest``."""
        return next((entry.descriptor for entry in self.entries if entry.descriptor.digest == digest), None)

    def _choice(self) -> str:
        names = list(self.names())
        names += [f"@{entry.descriptor.digest!s}" for entry in self.entries if not entry.names]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return (", ".join(names[:_SHOWN]) or "nothing") + more

    # what there shall be

    def adding(self, manifest: Descriptor, name: str | None) -> ImageIndex:
        """This, with ``manifest`` called ``name``, whatever that named before. Without a name it is listed unless it is
        already, and a manifest that was listed without a name gets the one it is given.
        """
        mine = [entry for entry in self.entries if entry.descriptor.digest == manifest.digest]
        if name is None:
            return self if mine else self._with([*self.entries, _entry(manifest)])
        if any(entry.ref_name == name for entry in mine) and self._is_alone(name):
            return self
        kept = [entry for entry in self.entries if entry.ref_name != name and not (entry in mine and not entry.names)]
        unnamed = next((entry for entry in mine if not entry.names), None)
        return self._with([*kept, _renamed(unnamed or _entry(manifest), name)])

    def sorted(self) -> ImageIndex:
        """This, in an order that depends on nothing but what there is."""
        return self._with(sorted(self.entries, key=lambda entry: (entry.names, entry.descriptor.digest)))

    def _is_alone(self, name: str) -> bool:
        return sum(entry.ref_name == name for entry in self.entries) == 1

    def _with(self, entries: Iterable[Entry]) -> ImageIndex:
        return ImageIndex(self._where, self._fields, entries, self._odd)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __repr__(self) -> str:
        return f"ImageIndex({self._where!r}, {len(self.entries)} images)"


def _distinct(entries: Iterable[Entry]) -> list[Descriptor]:
    return list({entry.descriptor.digest: entry.descriptor for entry in entries}.values())


def _parsed(name: str) -> Reference | None:
    try:
        return Reference.parse(name)
    except AsyncraneError:
        return None


def _entry(manifest: Descriptor) -> Entry:
    fields: dict[str, Any] = {"mediaType": manifest.media_type, "digest": str(manifest.digest), "size": manifest.size}
    if manifest.artifact_type:
        fields["artifactType"] = manifest.artifact_type
    return Entry(Descriptor.read(fields), fields)


def _renamed(entry: Entry, name: str) -> Entry:
    annotations = {**entry.descriptor.annotations, REF_NAME: name}
    fields = {**entry.fields, "annotations": annotations}
    return Entry(Descriptor.read(fields), fields)
