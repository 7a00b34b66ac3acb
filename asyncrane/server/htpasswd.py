"""Users of an htpasswd file, as Apache's tool writes it: bcrypt (``-B``), Apache's MD5 (``-m``, the default), SHA
(``-s``, ``-2``, ``-5``), and ``{PLAIN}`` for a file that is no secret.

bcrypt and the SHA crypts are worked out by ``crypt(3)`` of this machine; bcrypt by the package of that name where that
knows it not.
"""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import importlib
import secrets
from functools import cache
from pathlib import Path
from typing import Any

from asyncrane.errors import InvalidInput

_SHA = "{SHA}"
_PLAIN = "{PLAIN}"
_APR1 = "$apr1$"
_BCRYPT = ("$2y$", "$2b$", "$2a$")
_NOTHING = "*"
"""Equals no stored password."""
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class HtpasswdUsers:
    """Names and hashed passwords. A password that was right is remembered, hashed with a key of this process: bcrypt is
    slow on purpose, and a client shows its password with every request.
    """

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = dict(hashes)
        self._decoy = next(iter(self._hashes.values()), _PLAIN)
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}

    @classmethod
    def read(cls, path: Path) -> HtpasswdUsers:
        """Read a file of ``name:hash`` lines.

        :raises InvalidInput: when a line is none, or its hash is of a kind that cannot be checked here
        :raises OSError: when the file cannot be read
        """
        hashes: dict[str, str] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            name, colon, hashed = text.partition(":")
            if not colon or not name:
                raise InvalidInput(f"{path}, line {number}: not NAME:HASH")
            if not _checkable(hashed):
                raise InvalidInput(f"{path}, line {number}: not a user that can be checked here ({_advice(hashed)})")
            hashes[name] = hashed
        return cls(hashes)

    def check(self, username: str, password: str) -> bool:
        """Whether this is the user's password."""
        hashed = self._hashes.get(username)
        if hashed is None:
            _hash(password, self._decoy)  # takes as long as for a user: time does not tell who is one
            return False
        proof = hmac.digest(self._key, password.encode(), "sha256")
        if hmac.compare_digest(self._right.get(username, b""), proof):
            return True
        right = hmac.compare_digest(_hash(password, hashed).encode(), hashed.encode())
        if right:
            self._right[username] = proof
        return right

    def __repr__(self) -> str:
        return f"HtpasswdUsers({sorted(self._hashes)})"


def _checkable(hashed: str) -> bool:
    return hashed.startswith((_SHA, _PLAIN)) or (hashed.startswith("$") and _hash("", hashed).startswith(hashed[:4]))


def _advice(hashed: str) -> str:
    if hashed.startswith(_BCRYPT):
        return "pip install bcrypt"
    return "use htpasswd -B"


def _hash(password: str, like: str) -> str:
    """``password`` hashed the way ``like`` is; something that equals nothing when that cannot be done."""
    data = password.encode()
    if like.startswith(_PLAIN):
        return _PLAIN + password
    if like.startswith(_SHA):
        # What Apache writes; not a choice of ours.
        return _SHA + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
    if like.startswith(_APR1):
        return _apr1(data, like)
    hashed = _crypted(data, like.encode())
    return hashed if hashed.startswith(like[:4]) or not like.startswith(_BCRYPT) else _bcrypted(data, like.encode())


def _crypted(password: bytes, like: bytes) -> str:
    crypt = _crypt()
    hashed: bytes | None = crypt(password, like) if crypt and b"\0" not in password else None
    return hashed.decode() if hashed else _NOTHING


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


def _bcrypted(password: bytes, like: bytes) -> str:
    """bcrypt by the package of that name, which is no dependency."""
    try:
        bcrypt: Any = importlib.import_module("bcrypt")
        # It refuses what bcrypt, and so htpasswd, does not look at.
        return str(bcrypt.hashpw(password[:72], like).decode())
    except (ImportError, ValueError):
        return _NOTHING


def _apr1(password: bytes, like: str) -> str:
    """Apache's MD5: a thousand rounds over password and salt (APR, ``apr_md5_encode``)."""
    salt = like.removeprefix(_APR1).partition("$")[0][:8].encode()
    inner = _md5(password + salt + password)
    start = password + _APR1.encode() + salt + (inner * (len(password) // 16 + 1))[: len(password)]
    length = len(password)
    while length:
        start += b"\0" if length & 1 else password[:1]
        length >>= 1
    digest = _md5(start)
    for turn in range(1000):
        first, last = (password, digest) if turn & 1 else (digest, password)
        digest = _md5(first + (salt if turn % 3 else b"") + (password if turn % 7 else b"") + last)
    return f"{_APR1}{salt.decode()}${_sixteen(digest)}"


def _sixteen(digest: bytes) -> str:
    """Sixteen bytes in crypt's own alphabet and order."""
    groups = [(digest[i], digest[i + 6], digest[(i + 12) if i < 4 else 5]) for i in range(5)]
    text = "".join(_six_bits(high << 16 | middle << 8 | low, 4) for high, middle, low in groups)
    return text + _six_bits(digest[11], 2)


def _six_bits(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * at & 0x3F] for at in range(count))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
