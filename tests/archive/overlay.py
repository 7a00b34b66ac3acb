"""Layers made by the standard library, and a file system made of them by the rules of the image-spec in the plainest
way there is: what merging is compared with.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncrane.archive.merge import merged
from asyncrane.archive.tarfs import TarReader
from asyncrane.archive.whiteout import Tree, listed

_KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.FIFOTYPE: "pipe",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "block device",
}


def entry(name: str, content: bytes | None = None, **header: Any) -> tuple[tarfile.TarInfo, bytes]:
    """An entry: a file with ``content``, a directory where ``name`` ends with a slash, or what ``header`` says."""
    info = tarfile.TarInfo(name)
    if content is not None:
        info.size = len(content)
    elif name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    for key, value in {"mtime": 1_600_000_000, **header}.items():
        setattr(info, key, value)
    return info, content or b""


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A hard link."""
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic link."""
    return entry(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def tar(*entries: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def layer(*names: str, **contents: str) -> bytes:
    """A layer of files that hold their own names, or what is said of them; ``a -> b`` is a symbolic link, ``a = b`` a
    hard link, ``a/`` a directory.
    """
    made = []
    for name in names:
        if " -> " in name:
            made.append(symlink(*name.split(" -> ")))
        elif " = " in name:
            made.append(link(*name.split(" = ")))
        else:
            text = contents.get(name.rpartition("/")[2], name)
            made.append(entry(name) if name.endswith("/") else entry(name, text.encode()))
    return tar(*made)


def merge(*layers: bytes) -> bytes:
    """The layers merged by what is tested."""
    tree = Tree()
    for number, content in enumerate(layers):
        name = f"layer {number}"
        tree.apply(listed(TarReader(io.BytesIO(content), name), name), name)
    return b"".join(merged(tree, [lambda content=content: io.BytesIO(content) for content in layers]))  # type: ignore[misc]


@dataclass(eq=False)
class File:
    """Anything at a path; what has several names is one. ``header`` is empty where no layer says anything of it."""

    kind: str
    header: dict[str, Any] = field(default_factory=dict)
    content: bytes = b""
    target: str = ""


class Unusable(Exception):
    """What no rule says how to unpack."""


class Overlay:
    """Files by path."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {"": File("directory")}

    def apply(self, content: bytes) -> None:
        """Whiteouts first: they are about what is below."""
        with tarfile.open(fileobj=io.BytesIO(content or bytes(1024))) as archive:
            members = [(member, self._content(archive, member)) for member in archive]
        own = {self._path(m.name) for m, _ in members if m.isdir()}
        gone: dict[str, File] = {}
        for member, _ in members:
            parent, _, base = self._path(member.name).rpartition("/")
            if base.startswith(".wh.") and not base.startswith(".wh..wh."):
                if base[4:] in ("", ".", ".."):
                    raise Unusable(base)
                there = self._under_whiteouts(parent, own)
                if there is not None:
                    removed = self._remove(self._join(there, base[4:]))
                    gone |= removed if there == parent else {}
        for member, _ in members:
            parent, _, base = self._path(member.name).rpartition("/")
            if base == ".wh..wh..opq":
                there = self._under_whiteouts(parent, own)
                removed = self._remove_below(there)
                gone |= removed if there == parent else {}
        entries = [(m, c) for m, c in members if not self._path(m.name).rpartition("/")[2].startswith(".wh.")]
        late = [(m, c) for m, c in entries if not self._unpack(m, c, gone)]
        if not all(self._unpack(m, c, gone) for m, c in late):
            raise Unusable("a hard link to nothing")
        for private in [path for path in self.files if path.startswith(".wh..wh.")]:
            del self.files[private]

    def described(self) -> dict[str, tuple[Any, ...]]:
        """Everything that can be seen of each path; files of several names name these."""
        names: dict[int, list[str]] = {}
        for path, file in self.files.items():
            names.setdefault(id(file), []).append(path)
        full = {path.rpartition("/")[0] for path in self.files if path}
        found = {
            path: (file.kind, file.header, file.content, file.target, sorted(names[id(file)]))
            for path, file in self.files.items()
            if file.kind != "directory" or file.header or path
        }
        for path in found.keys() - full:
            if not found[path][1]:  # there, and that is all there is to say of it
                found[path] = ("directory", self._file(entry(f"{path}/", mtime=0)[0], b"").header, b"", "", [path])
        return found

    def _unpack(self, member: tarfile.TarInfo, content: bytes, gone: dict[str, File]) -> bool:
        path = self._path(member.name)
        if not path:
            if not member.isdir():
                raise Unusable("the root is no directory")
            self.files[""] = self._file(member, b"")
            return True
        if member.islnk():
            target = self._path(member.linkname)
            file = self._lookup(target) or gone.get(target)
            if file is not None and file.kind == "directory":
                raise Unusable("a hard link to a directory")
            if file is None:
                return False
        else:
            file = self._file(member, content)
        parent, _, base = path.rpartition("/")
        real = self._join(self._resolve(parent, make=True) or "", base)
        before = self.files.get(real)
        if not (file.kind == "directory" and before is not None and before.kind == "directory"):
            self._remove(real)
        self.files[real] = file
        return True

    def _resolve(self, path: str, *, make: bool) -> str | None:
        """The directory ``path`` leads to, through symbolic links, never above the root."""
        here: list[str] = []
        todo = path.split("/")
        hops = 0
        while todo:
            part = todo.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                here = here[:-1]
                continue
            at = "/".join([*here, part])
            file = self.files.get(at)
            if file is not None and file.kind == "symlink":
                hops += 1
                if hops > 255:
                    raise Unusable("round in circles")
                here = [] if file.target.startswith("/") else here
                todo = file.target.split("/") + todo
                continue
            if file is None or file.kind != "directory":
                if not make:
                    return None
                self._remove(at)
                self.files[at] = File("directory")
            here.append(part)
        return "/".join(here)

    def _lookup(self, path: str) -> File | None:
        parent, _, base = path.rpartition("/")
        real = self._resolve(parent, make=False)
        return None if real is None else self.files.get(self._join(real, base) if base else real)

    def _under_whiteouts(self, path: str, own: set[str]) -> str | None:
        real = self._resolve(path, make=False)
        if real is not None and real != path:
            parts = path.split("/")
            for end in range(1, len(parts) + 1):
                prefix = "/".join(parts[:end])
                file = self._lookup(prefix)
                if prefix in own and (file is None or file.kind != "directory"):
                    return None
        return real

    def _remove(self, path: str) -> dict[str, File]:
        found = self.files.pop(path, None)
        return self._remove_below(path) | ({} if found is None else {path: found})

    def _remove_below(self, path: str | None) -> dict[str, File]:
        if path is None:
            return {}
        prefix = f"{path}/" if path else ""
        below = [name for name in self.files if name and name != path and name.startswith(prefix)]
        return {name: self.files.pop(name) for name in below}

    @staticmethod
    def _file(member: tarfile.TarInfo, content: bytes) -> File:
        header = {
            "mode": member.mode,
            "owner": (member.uid, member.gid),
            "names": (member.uname, member.gname),
            "time": member.mtime,
            "device": (member.devmajor, member.devminor),
            "attributes": {k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")},
        }
        return File(_KINDS.get(member.type, "file"), header, content, member.linkname if member.issym() else "")

    @staticmethod
    def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        file = archive.extractfile(member) if member.isfile() or member.issparse() else None
        return file.read() if file is not None else b""

    @staticmethod
    def _path(name: str) -> str:
        parts: list[str] = []
        for part in name.split("/"):
            if part == "..":
                if not parts:
                    raise Unusable(f"{name} leads out")
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts)

    @staticmethod
    def _join(parent: str, base: str) -> str:
        return f"{parent}/{base}" if parent else base


def overlay(layers: Sequence[bytes]) -> dict[str, tuple[Any, ...]]:
    """What ``layers`` look like, the first one lowest."""
    made = Overlay()
    for content in layers:
        made.apply(content)
    return made.described()


def names(archive: bytes) -> list[str]:
    """The names of an archive's entries, in order."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [f"{member.name}/" if member.isdir() else member.name for member in opened]


def contents(archive: bytes) -> dict[str, str]:
    """What each file of an archive holds; of symbolic links what they say, after an arrow."""
    return dict(_contents(overlay([archive])))


def _contents(files: dict[str, tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
    for path, (kind, _, content, target, _) in files.items():
        if kind == "symlink":
            yield path, f"-> {target}"
        elif kind != "directory":
            yield path, content.decode()
