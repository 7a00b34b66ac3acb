"""The OCI distribution API 1.1 as a function from a call to a reply: :class:`Registry`."""

from __future__ import annotations

from asyncrane.server.access import Auth, needed, pull_from
from asyncrane.server.blobs import delete_blob, get_blob, head_blob
from asyncrane.server.call import Call
from asyncrane.server.google import check_deletion, list_everything
from asyncrane.server.listing import list_referrers, list_repositories, list_tags
from asyncrane.server.manifests import delete_manifest, get_manifest, put_manifest
from asyncrane.server.refusal import Refused, unsupported
from asyncrane.server.reply import Reply
from asyncrane.server.routes import check_route
from asyncrane.server.storage import Storage
from asyncrane.server.uploads import Uploads


class Registry:
    """One registry: a storage, the uploads under way, and who may use it. Lists come in pages of at most ``page``.

    ``google`` makes it list and delete as Google's registries do.
    """

    def __init__(self, storage: Storage, *, auth: Auth | None = None, page: int = 1000, google: bool = False) -> None:
        self.storage = storage
        self.uploads = Uploads(storage)
        self._auth = auth
        self._page = page
        self._google = google

    def __repr__(self) -> str:
        return f"Registry({self.storage!r}, {self.uploads!r})"

    async def answer(self, call: Call) -> Reply:
        """Answer one request; a refusal is an answer."""
        try:
            if call.route.kind == "token":
                return await self._token(call)
            if self._auth:
                self._auth.admit(call, needed(call))
            check_route(call.route, call.method, call.path)
            return await self._dispatch(call)
        except Refused as refusal:
            return refusal.reply()

    async def _token(self, call: Call) -> Reply:
        if self._auth is None:
            raise Refused(404, "UNSUPPORTED", "this registry asks nobody who they are")
        return await self._auth.token(call)

    async def _dispatch(self, call: Call) -> Reply:
        kind = call.route.kind
        if kind.startswith(("upload-", "mount")):
            return await self._upload(call)
        if kind.startswith("manifest-"):
            return await self._manifest(call)
        match kind:
            case "ping":
                return Reply.of_json({})
            case "blob-head":
                return head_blob(self.storage, call)
            case "blob-get":
                return get_blob(self.storage, call)
            case "blob-delete":
                return delete_blob(self.storage, call)
        return self._list(call)

    async def _upload(self, call: Call) -> Reply:
        match call.route.kind:
            case "upload-post":
                return await self.uploads.post(call)
            case "upload-patch":
                return await self.uploads.patch(call)
            case "upload-put":
                return await self.uploads.put(call)
            case "upload-status":
                return await self.uploads.status(call)
            case "upload-delete":
                return await self.uploads.delete(call)
        allowed = self._auth is None or self._auth.allows(call, pull_from(call.ask("from")))
        return await self.uploads.mount(call, allowed=allowed)

    async def _manifest(self, call: Call) -> Reply:
        match call.route.kind:
            case "manifest-put":
                return await put_manifest(self.storage, call)
            case "manifest-delete":
                if self._google:
                    check_deletion(self.storage.index, call)
                return delete_manifest(self.storage, call)
        return get_manifest(self.storage, call)

    def _list(self, call: Call) -> Reply:
        match call.route.kind:
            case "tags" if self._google:
                return list_everything(self.storage, call)
            case "catalog" if self._google:
                raise unsupported(call.method)
            case "tags":
                return list_tags(self.storage, call, page=self._page)
            case "catalog":
                return list_repositories(self.storage, call, page=self._page)
            case "referrers":
                return list_referrers(self.storage, call, page=self._page)
        raise unsupported(call.method)
