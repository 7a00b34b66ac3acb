"""Reading images back: every manifest from where they are now, every blob asked for, everything attached looked up.

The destination is believed nothing: its manifests are read and hashed, and each blob, each manifest, each subject is
looked at once however many images name it. What is attached is what the source says (distribution-spec, "Listing
Referrers", and cosign's tags), as the engine has it when it copies (:mod:`asyncrane.engine.attaching`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import msgspec

from asyncrane.engine.attaching import COSIGN_SUFFIXES, by_subject
from asyncrane.errors import AsyncraneError, ContentError, NotFound
from asyncrane.mirror.crew import Errand
from asyncrane.mirror.difference import Kind
from asyncrane.oci.descriptor import Descriptor
from asyncrane.oci.digest import Digest
from asyncrane.oci.manifest import Manifest
from asyncrane.oci.media import is_nondistributable
from asyncrane.registry import blobs
from asyncrane.registry.referrers import fallback_tag
from asyncrane.stores.remote import Remote


class Image(msgspec.Struct, frozen=True):
    """One image to compare: a tag or digest of the source, and its tag at the destination (empty: by its digest)."""

    name: str
    at: str = ""


class Tell(Protocol):
    """Takes in a difference of an image."""

    def __call__(
        self,
        kind: Kind,
        image: Image,
        expected: str,
        *,
        found: str = "",
        within: str = "",
        tag: str = "",
        detail: str = "",
    ) -> None:
        """As :class:`~asyncrane.mirror.difference.Difference` has it."""
        ...


class ReadBack:
    """Images of one repository, looked at in another.

    :param add: takes what is to be asked next
    :param asked: raw digests of the blobs that the destination has been asked for; is added to
    :param referrers: whether what is attached to them is to be there, too
    :param nondistributable: whether layers are to be there that are normally not
    :param listing: all tags of the source; without them cosign's are asked for one by one
    """

    def __init__(
        self,
        source: Remote,
        destination: Remote,
        *,
        add: Callable[[Errand], None],
        tell: Tell,
        asked: set[bytes],
        referrers: bool,
        nondistributable: bool,
        listing: Iterable[str] | None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._add = add
        self._tell = tell
        self._asked = asked
        self._referrers = referrers
        self._nondistributable = nondistributable
        self._tags = None if listing is None else by_subject(listing)
        self._manifests: set[bytes] = set()

    def look(self, image: Image, digest: Digest) -> None:
        """Look at ``image``, which is ``digest``, and everything below and attached."""
        self._visit(image, digest)

    def _visit(self, image: Image, digest: Digest, within: str = "", *, attached: bool = False) -> None:
        if digest.raw not in self._manifests:
            self._manifests.add(digest.raw)
            self._add(partial(self._manifest, image, digest, within, attached=attached))

    async def _manifest(self, image: Image, digest: Digest, within: str, *, attached: bool) -> None:
        try:
            manifest = await self._destination.manifest(str(digest))
        except NotFound:
            if attached:
                await self._absent(image, within, digest)
            else:  # stands for everything below it
                self._tell("missing-manifest", image, digest, within=within)
            return
        except AsyncraneError as exc:
            kind: Kind = "corrupt" if isinstance(exc, ContentError) else "unreadable"
            self._tell(kind, image, digest, within=within, detail=str(exc))
            return
        for blob in manifest.blobs():
            if self._wanted(blob):
                self._asked.add(blob.digest.raw)
                self._add(partial(self._blob, image, manifest, blob))
        for child in manifest.children():
            self._visit(image, child.digest, digest)
        if self._referrers:
            self._add(partial(self._subject, image, digest))

    def _wanted(self, blob: Descriptor) -> bool:
        if is_nondistributable(blob.media_type) and not self._nondistributable:
            return False
        return blob.digest.raw not in self._asked

    async def _blob(self, image: Image, manifest: Manifest, blob: Descriptor) -> None:
        tell = partial(self._tell, image=image, expected=blob.digest, within=manifest.digest)
        try:
            found = await blobs.size(self._destination.origin, self._destination.place.repository, blob.digest)
        except NotFound:
            tell("missing-blob")
        except AsyncraneError as exc:
            tell("unreadable", detail=str(exc))
        else:
            if found is not None and blob.size >= 0 and found != blob.size:
                tell("corrupt-blob", detail=f"{found} bytes, and the manifest says {blob.size}")

    # what is attached

    async def _subject(self, image: Image, subject: Digest) -> None:
        """Every manifest that the source says is attached to ``subject``, and cosign's tags for it."""
        try:
            expected = await self._attached(subject)
            there = await self._destination.attached(subject) if expected else ((), False)
        except AsyncraneError as exc:
            self._tell("unreadable", image, "", within=subject, detail=f"what is attached is not known: {exc}")
        else:
            listed = {descriptor.digest for descriptor in there[0]}
            for digest in expected:
                if digest in listed:
                    self._visit(image, digest, subject, attached=True)
                else:
                    self._add(partial(self._absent, image, subject, digest))
        for tag in self._cosign(subject):
            self._add(partial(self._tagged, image, subject, tag))

    async def _attached(self, subject: Digest) -> list[Digest]:
        name = fallback_tag(subject)
        fallback = self._tags is None or name in self._tags.get(name, ())
        if not fallback and self._source.origin.capabilities.referrers is False:
            return []
        found, _ = await self._source.attached(subject, fallback=fallback)
        return list(dict.fromkeys(descriptor.digest for descriptor in found))

    def _cosign(self, subject: Digest) -> list[str]:
        name = fallback_tag(subject)
        if self._tags is None:
            return [f"{name}.{suffix}" for suffix in COSIGN_SUFFIXES]
        return [tag for tag in self._tags.get(name, ()) if tag != name]

    async def _absent(self, image: Image, subject: str, digest: Digest) -> None:
        """The destination does not say that ``digest`` is attached: whether it should is for the manifest to say."""
        try:
            manifest = await self._source.manifest(str(digest))
            if manifest.subject is None or manifest.subject.digest != subject:
                return
            detail = "it is there, and is not listed" if await self._is_there(digest) else ""
        except NotFound:  # the source's own list names what is gone
            return
        except AsyncraneError as exc:
            self._tell("unreadable", image, digest, within=subject, detail=str(exc))
        else:
            self._tell("missing-referrer", image, digest, within=subject, detail=detail)

    async def _is_there(self, digest: Digest) -> bool:
        try:
            await self._destination.resolve(str(digest))
        except NotFound:
            return False
        return True

    async def _tagged(self, image: Image, subject: Digest, tag: str) -> None:
        """What is attached by tag, as cosign does."""
        expected: Digest | None = None
        try:
            expected = (await self._source.resolve(tag)).digest
            found = (await self._destination.resolve(tag)).digest
        except NotFound:
            if expected is not None:
                self._tell("missing-referrer", image, expected, within=subject, tag=tag)
        except AsyncraneError as exc:
            self._tell("unreadable", image, expected or "", within=subject, tag=tag, detail=str(exc))
        else:
            if found == expected:
                self._visit(image, expected, subject)
            else:
                self._tell("missing-referrer", image, expected, found=found, within=subject, tag=tag)
