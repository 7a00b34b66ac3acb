"""Users of an htpasswd file (Apache's ``htpasswd -B``): what ``crypt(3)`` of this machine checks, and ``{SHA}``."""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import secrets
from functools import cache
from pathlib import Path
from typing import Any

from asyncrane.errors import InvalidInput

_SHA = "{SHA}"


class HtpasswdUsers:
    """Names and hashed passwords. A password that was right is remembered, hashed with a key of this process: bcrypt is
    slow on purpose, and a client shows its password with every request.
    """

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = dict(hashes)
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}

    @classmethod
    def read(cls, path: Path) -> HtpasswdUsers:
        """Read a file of ``name:hash`` lines.

        :raises InvalidInput: when a line is none, or its hash is of a kind that cannot be checked here
        :raises OSError: when the file cannot be read
        """
        hashes: dict[str, str] = {}
        for number, line in enumerate(path.read_text().splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            name, colon, hashed = text.partition(":")
            if not colon or not name or not _checkable(hashed):
                raise InvalidInput(f"{path}, line {number}: not a user that can be checked here (use htpasswd -B)")
            hashes[name] = hashed
        return cls(hashes)

    def check(self, username: str, password: str) -> bool:
        """Whether this is the user's password."""
        hashed = self._hashes.get(username)
        if hashed is None:
            return False
        proof = hmac.digest(self._key, password.encode(), "sha256")
        if hmac.compare_digest(self._right.get(username, b""), proof):
            return True
        right = hmac.compare_digest(_hash(password, hashed), hashed)
        if right:
            self._right[username] = proof
        return right

    def __repr__(self) -> str:
        return f"HtpasswdUsers({sorted(self._hashes)})"


def _checkable(hashed: str) -> bool:
    return hashed.startswith(_SHA) or (hashed.startswith("$") and _hash("", hashed).startswith(hashed[:4]))


def _hash(password: str, like: str) -> str:
    """``password`` hashed the way ``like`` is; something that equals nothing when that cannot be done."""
    if like.startswith(_SHA):
        # what Apache writes; not a choice of ours
        return _SHA + base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest()).decode()
    crypt = _crypt()
    hashed: bytes | None = crypt(password.encode(), like.encode()) if crypt and "\0" not in password else None
    return hashed.decode() if hashed else "*"


@cache
def _crypt() -> Any:
    """``crypt(3)``; the ``crypt`` module that wrapped it is gone from Python 3.13."""
    name = ctypes.util.find_library("crypt")
    if name is None:
        return None
    function = ctypes.CDLL(name).crypt
    function.restype = ctypes.c_char_p
    function.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    return function
