"""A small container engine: it loads, keeps, tags and saves images as docker does with its older image store, where
layers are kept unpacked. Enough of the API for everybody who moves images (skopeo and crane use it, too).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import ssl
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import anyio
import anyio.to_thread
from aiohttp import web
from backports import zstd

from asyncrane.server.accepting import accepting

_PIECE = 1024 * 1024


class Kept(NamedTuple):
    """An image: its config, and the digests of its layers' tars."""

    config: bytes
    diff_ids: tuple[str, ...]


class Engine:
    """Keeps its layers as files in ``folder``. The attributes are what can be wrong with it."""

    def __init__(self, folder: Path, *, version: str = "1.44") -> None:
        self._folder = folder
        self.version = version
        self.images: dict[str, Kept] = {}
        self.names: dict[str, str] = {}
        self.requests: list[str] = []
        self.load_error = ""
        """What it says, in an answer of 200, instead of loading."""
        self.load_refusal = ""
        """What it says at once, in an answer of 500, before it has read anything."""
        self.cut_save: int | None = None
        """Bytes after which it drops the connection."""
        self.head_ping = True
        """Whether it knows HEAD."""

    def app(self) -> web.Application:
        """The API."""
        app = web.Application(client_max_size=1 << 40)
        app.router.add_route("HEAD", "/_ping", self._ping)
        app.router.add_route("GET", "/_ping", self._ping)
        app.router.add_post("/{version:v1[.][0-9]+}/images/load", self._load)
        app.router.add_get("/{version:v1[.][0-9]+}/images/get", self._save)
        app.router.add_get("/{version:v1[.][0-9]+}/images/{name:.+}/get", self._save)
        app.router.add_get("/{version:v1[.][0-9]+}/images/{name:.+}/json", self._inspect)
        app.router.add_post("/{version:v1[.][0-9]+}/images/{name:.+}/tag", self._tag)
        app.middlewares.append(self._logged)
        return app

    @web.middleware
    async def _logged(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        version = request.match_info.get("version")
        if version is not None and _number(version) > _number(self.version):
            return _refusal(
                400, f"client version {version[1:]} is too new. Maximum supported API version is {self.version}"
            )
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _ping(self, request: web.Request) -> web.Response:
        if request.method == "HEAD" and not self.head_ping:
            return web.Response(status=405)
        return web.Response(text="OK" if request.method == "GET" else None, headers={"Api-Version": self.version})

    async def _inspect(self, request: web.Request) -> web.Response:
        found = self._find(request.match_info["name"])
        if found is None:
            return _refusal(404, f"No such image: {request.match_info['name']}")
        names = [name for name, image in self.names.items() if image == found]
        config = json.loads(self.images[found].config)
        fields = {key: config.get(key.lower(), "") for key in ("Os", "Architecture")}
        return web.json_response({"Id": found, "RepoTags": [_familiar(name) for name in names], **fields})

    async def _tag(self, request: web.Request) -> web.Response:
        found = self._find(request.match_info["name"])
        if found is None:
            return _refusal(404, f"No such image: {request.match_info['name']}")
        self.names[_full(f"{request.query['repo']}:{request.query['tag']}")] = found
        return web.Response(status=201)

    async def _load(self, request: web.Request) -> web.StreamResponse:
        if self.load_refusal:
            return _refusal(500, self.load_refusal)
        path = self._folder / f"loading-{len(self.requests)}"
        with path.open("wb") as file:
            async for chunk in request.content.iter_chunked(_PIECE):
                await anyio.to_thread.run_sync(file.write, chunk)
        try:
            said = {"stream": f"Loaded image: {', '.join(await anyio.to_thread.run_sync(self._take, path))}\n"}
        except (KeyError, ValueError, OSError, tarfile.TarError, zstd.ZstdError) as exc:
            said = _complaint(f"{type(exc).__name__}: {exc}")
        finally:
            path.unlink()
        if self.load_error:
            said = _complaint(self.load_error)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        for line in ({"stream": "unpacking\n"}, said):
            await answer.write(json.dumps(line).encode() + b"\r\n")
        return answer

    def _take(self, path: Path) -> list[str]:
        """Load an archive: all of it, or nothing."""
        taken: dict[str, str] = {}
        kept: dict[str, Kept] = {}
        with tarfile.open(path) as archive:
            for image in json.load(_member(archive, "manifest.json")):
                config = _member(archive, image["Config"]).read()
                wanted = json.loads(config)["rootfs"]["diff_ids"]
                found = tuple(self._keep(_expanded(_member(archive, layer))) for layer in image["Layers"])
                if list(found) != wanted:
                    raise ValueError(f"invalid diffID: expected {wanted}, got {found}")
                digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
                kept[digest] = Kept(config, found)
                taken |= {_full(name): digest for name in image["RepoTags"] or ()}
        self.images |= kept
        self.names |= taken
        return [_familiar(name) for name in taken] or list(kept)

    def _keep(self, content: Iterator[bytes]) -> str:
        path, hashed = self._folder / "layer", hashlib.sha256()
        with path.open("wb") as file:
            for piece in content:
                hashed.update(piece)
                file.write(piece)
        path.rename(self._folder / hashed.hexdigest())
        return f"sha256:{hashed.hexdigest()}"

    async def _save(self, request: web.Request) -> web.StreamResponse:
        asked = [request.match_info["name"]] if "name" in request.match_info else request.query.getall("names")
        missing = [name for name in asked if self._find(name) is None]
        if missing:
            return _refusal(404, f"reference does not exist: {missing[0]}")
        path = self._folder / f"saving-{len(self.requests)}"
        await anyio.to_thread.run_sync(self._write, path, asked)
        answer = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await answer.prepare(request)
        with path.open("rb") as file:
            path.unlink()
            while piece := await anyio.to_thread.run_sync(file.read, _PIECE):
                if self.cut_save is not None:
                    await answer.write(piece[: self.cut_save])
                    assert request.transport is not None
                    request.transport.close()
                    return answer
                await answer.write(piece)
        return answer

    def _write(self, path: Path, names: list[str]) -> None:
        """An archive as docker save wrote it before version 25."""
        entries = []
        with tarfile.open(path, "w") as archive:
            for name in names:
                found = cast("str", self._find(name))
                image, tags = self.images[found], [] if name == found else [_familiar(_full(name))]
                layers = []
                for diff_id in image.diff_ids:
                    inside = f"{diff_id[7:]}/layer.tar"
                    archive.add(self._folder / diff_id[7:], inside)
                    layers.append(inside)
                _add(archive, f"{found[7:]}.json", image.config)
                entries.append({"Config": f"{found[7:]}.json", "RepoTags": tags or None, "Layers": layers})
            _add(archive, "manifest.json", json.dumps(entries).encode())

    def _find(self, name: str) -> str | None:
        return name if name in self.images else self.names.get(_full(name))


@asynccontextmanager
async def running(engine: Engine, where: Path | str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The engine at a socket, or at a free port of the host ``where``; what ``DOCKER_HOST`` is to be."""
    runner = web.AppRunner(engine.app())
    await runner.setup()
    try:
        if isinstance(where, Path):
            await web.UnixSite(runner, str(where)).start()
            yield f"unix://{where}"
        else:
            async with accepting(runner, where, ssl=tls) as port:
                yield f"tcp://{where}:{port}"
    finally:
        await runner.cleanup()


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix("v").split("."))


def _refusal(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)


def _complaint(text: str) -> dict[str, Any]:
    return {"errorDetail": {"message": text}, "error": text}


def _full(name: str) -> str:
    first, slash, _ = name.partition("/")
    if not slash or not ({".", ":"} & set(first) or first == "localhost"):
        name = f"docker.io/{name if slash else f'library/{name}'}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _familiar(name: str) -> str:
    return name.removeprefix("docker.io/").removeprefix("library/")


def _member(archive: tarfile.TarFile, name: str) -> BinaryIO:
    return cast("BinaryIO", archive.extractfile(name))


def _expanded(file: BinaryIO) -> Iterator[bytes]:
    head = file.read(4)
    file.seek(0)
    inner: Any = file
    if head.startswith(b"\x1f\x8b"):
        inner = gzip.GzipFile(fileobj=file)
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        inner = zstd.ZstdFile(file)
    while piece := inner.read(_PIECE):
        yield piece


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
