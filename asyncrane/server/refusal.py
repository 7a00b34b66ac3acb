"""How the registry says no (distribution-spec, "Error Codes")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncrane.server.reply import Reply


class Refused(Exception):
    """A request is answered with ``status`` and the error ``code``."""

    def __init__(
        self, status: int, code: str, message: str, *, detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.headers = headers or {}

    def reply(self) -> Reply:
        """The answer, with the specification's error body."""
        return error_reply(self.status, self.code, self.message, detail=self.detail, headers=self.headers)


def error_reply(
    status: int, code: str, message: str = "", *, detail: Any = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """An answer with the error body ``{"errors": [...]}``."""
    error = {"code": code, "message": message or code.lower().replace("_", " ")}
    if detail is not None:
        error["detail"] = detail
    return Reply.of_json({"errors": [error]}, status=status, headers=headers)


def blob_unknown(digest: str) -> Refused:
    """The blob is not in this repository."""
    return Refused(404, "BLOB_UNKNOWN", "blob unknown to registry", detail={"digest": digest})


def manifest_unknown(identifier: str) -> Refused:
    """The tag or digest names no manifest of this repository."""
    return Refused(404, "MANIFEST_UNKNOWN", "manifest unknown", detail={"reference": identifier})


def name_unknown(repository: str) -> Refused:
    """There is no such repository."""
    return Refused(404, "NAME_UNKNOWN", "repository name not known to registry", detail={"name": repository})


def unsupported(method: str) -> Refused:
    """The path exists, the method does not."""
    return Refused(405, "UNSUPPORTED", f"{method} is not supported here")
