"""What is where: the repositories' blobs, manifests, tags and referrers, in memory, without the content."""

from __future__ import annotations

from dataclasses import dataclass, field

from asyncrane.oci.digest import Digest


@dataclass(slots=True)
class _Repository:
    blobs: set[Digest] = field(default_factory=set)
    manifests: dict[Digest, int] = field(default_factory=dict)  # size in bytes
    subjects: dict[Digest, Digest] = field(default_factory=dict)  # manifest -> what it is attached to
    referrers: dict[Digest, set[Digest]] = field(default_factory=dict)  # the same, turned round
    tags: dict[str, Digest] = field(default_factory=dict)


class Index:
    """The registry's table of contents. A storage keeps it and its content in step; the API only asks it."""

    def __init__(self) -> None:
        self._repositories: dict[str, _Repository] = {}
        self._sizes: dict[Digest, int] = {}
        self._holders: dict[Digest, int] = {}  # how many repositories link a blob

    def __repr__(self) -> str:
        return f"Index({len(self._repositories)} repositories, {len(self._sizes)} blobs)"

    # blobs

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Bytes of a blob, ``None`` when this repository has it not."""
        known = self._repositories.get(repository)
        return self._sizes[digest] if known and digest in known.blobs else None

    def stored_size(self, digest: Digest) -> int | None:
        """Bytes of a blob, whatever repository has it."""
        return self._sizes.get(digest)

    def link(self, repository: str, digest: Digest, size: int) -> bool:
        """Put a blob into a repository; whether it was new there."""
        known = self._open(repository)
        if digest in known.blobs:
            return False
        known.blobs.add(digest)
        self._sizes[digest] = size
        self._holders[digest] = self._holders.get(digest, 0) + 1
        return True

    def unlink(self, repository: str, digest: Digest) -> bool:
        """Take a blob out of a repository that has it; whether no repository has it now."""
        self._repositories[repository].blobs.remove(digest)
        self._holders[digest] -= 1
        if self._holders[digest]:
            return False
        del self._holders[digest], self._sizes[digest]
        return True

    # manifests and tags

    def manifest_size(self, repository: str, digest: Digest) -> int | None:
        """Bytes of a manifest, ``None`` when this repository has it not."""
        known = self._repositories.get(repository)
        return known.manifests.get(digest) if known else None

    def add_manifest(self, repository: str, digest: Digest, size: int, subject: Digest | None) -> None:
        """Put a manifest into a repository."""
        known = self._open(repository)
        known.manifests[digest] = size
        if subject is not None:
            known.subjects[digest] = subject
            known.referrers.setdefault(subject, set()).add(digest)

    def remove_manifest(self, repository: str, digest: Digest) -> list[str]:
        """Take a manifest out of a repository that has it, and every tag that named it; returns those tags."""
        known = self._repositories[repository]
        del known.manifests[digest]
        if subject := known.subjects.pop(digest, None):
            known.referrers[subject].discard(digest)
        tags = [tag for tag, target in known.tags.items() if target == digest]
        for tag in tags:
            del known.tags[tag]
        return tags

    def tagged(self, repository: str, tag: str) -> Digest | None:
        """What a tag names."""
        known = self._repositories.get(repository)
        return known.tags.get(tag) if known else None

    def set_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """Let a tag name a manifest."""
        self._open(repository).tags[tag] = digest

    def remove_tag(self, repository: str, tag: str) -> None:
        """Take a tag away from a repository that has it."""
        del self._repositories[repository].tags[tag]

    # lists, each in the order of the bytes

    def has(self, repository: str) -> bool:
        """Whether anything was ever put into this repository."""
        return repository in self._repositories

    def repositories(self) -> list[str]:
        """Every repository."""
        return sorted(self._repositories)

    def tags(self, repository: str) -> list[str]:
        """Every tag of a repository."""
        known = self._repositories.get(repository)
        return sorted(known.tags) if known else []

    def manifests(self, repository: str) -> list[Digest]:
        """Every manifest of a repository."""
        known = self._repositories.get(repository)
        return sorted(known.manifests) if known else []

    def referrers(self, repository: str, subject: Digest) -> list[Digest]:
        """The manifests attached to ``subject``."""
        known = self._repositories.get(repository)
        return sorted(known.referrers.get(subject, ())) if known else []

    def _open(self, repository: str) -> _Repository:
        known = self._repositories.get(repository)
        if known is None:
            known = self._repositories[repository] = _Repository()
        return known
