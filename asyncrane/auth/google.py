"""Who we are to Google's registries, as gcrane finds it out: Application Default Credentials, the metadata server of a
machine at Google's, ``gcloud``.

(https://cloud.google.com/docs/authentication/application-default-credentials; ggcr ``pkg/v1/google/keychain.go``.)

Tokens live for an hour; one is kept until it is refused or nearly over. Files need the extra ``google``, but for keys
of service accounts, which registries take as they are. The one plain request to the metadata server, which is a part of
the machine, is made here with what Python has.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from asyncrane.auth.credentials import ANONYMOUS, Credential, Secretive
from asyncrane.auth.programs import run
from asyncrane.errors import CredentialError

_HOSTS = (".gcr.io", ".pkg.dev")
_USER = "_token"
_KEY_USER = "_json_key"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_FILE = "application_default_credentials.json"
_METADATA = "169.254.169.254"
_METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
_METADATA_LIMIT = 5.0
_PRODUCT = Path("/sys/class/dmi/id/product_name")
_HINTS = ("GCE_METADATA_HOST", "K_SERVICE", "CLOUD_RUN_JOB", "FUNCTION_TARGET", "GAE_ENV")
"""Variables that only machines at Google's have, where the firmware does not say so."""

_EARLY = 60.0
"""Seconds before its end that a token is not used any more."""

_GCLOUD = ("config", "config-helper", "--force-auth-refresh", "--format=json(credential)")


class _Token(Secretive, frozen=True):
    """What is known: a credential, and when it ends (seconds since 1970)."""

    credential: Credential
    ends: float = float("inf")


class _Answer(Secretive, frozen=True):
    access_token: str
    expires_in: float = 0.0


class _Credential(Secretive, frozen=True):
    access_token: str
    token_expiry: str = ""


class _Helper(Secretive, frozen=True):
    credential: _Credential


def serves(registry: str) -> bool:
    """Whether Google's credentials are for this registry: ``gcr.io``, ``*.gcr.io``, ``*.pkg.dev``."""
    return registry == "gcr.io" or registry.endswith(_HOSTS)


class GoogleCredentials:
    """Asks the first that knows, once for all who want to know.

    :param limit: seconds that ``gcloud`` may take
    :param product: the file in which firmware says whose machine this is
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        home: Path | None = None,
        limit: float = 30.0,
        product: Path = _PRODUCT,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._home = home
        self._limit = limit
        self._product = product
        self._lock = anyio.Lock()
        self._known: _Token | None = None

    async def find(self) -> Credential:
        """The credential, :data:`ANONYMOUS` when there is none.

        :raises CredentialError: when a file that is named cannot be used, or ``gcloud`` does not answer
        """
        async with self._lock:
            if self._known is None or self._known.ends - _EARLY < time.time():
                self._known = await self._ask()
            return self._known.credential

    def forget(self) -> None:
        """The credential was refused: ask again next time."""
        self._known = None

    async def _ask(self) -> _Token:
        if named := self._environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return await anyio.to_thread.run_sync(_of_file, Path(named))
        if found := await anyio.to_thread.run_sync(self._of_login):
            return found
        if self._is_at_google() and (found := await anyio.to_thread.run_sync(self._of_metadata)):
            return found
        return await self._of_gcloud() or _Token(ANONYMOUS)

    def _of_login(self) -> _Token | None:
        """What ``gcloud auth application-default login`` left; in a thread. What is of no use any more, or needs more
        than is installed, is passed over: ``gcloud`` may know better, and public images need nothing.
        """
        directory = self._environ.get("CLOUDSDK_CONFIG") or (self._home and self._home / ".config" / "gcloud")
        if not directory:
            return None
        try:
            return _of_file(Path(directory) / _FILE)
        except CredentialError:
            return None

    def _is_at_google(self) -> bool:
        if any(self._environ.get(name) for name in _HINTS):
            return True
        try:
            return self._product.read_text(errors="replace").startswith("Google")
        except OSError:
            return False

    def _of_metadata(self) -> _Token | None:
        """What the machine's own service account has; in a thread."""
        host = self._environ.get("GCE_METADATA_HOST") or _METADATA
        connection = http.client.HTTPConnection(host, timeout=_METADATA_LIMIT)
        try:
            connection.request("GET", _METADATA_PATH, headers={"Metadata-Flavor": "Google"})
            answer = connection.getresponse()
            body = answer.read(64 * 1024)
            if answer.status != 200 or answer.headers.get("Metadata-Flavor") != "Google":
                return None  # no service account, or somebody else's server
            said = msgspec.json.decode(body, type=_Answer)
        except (OSError, http.client.HTTPException):
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise CredentialError(f"the metadata server {host} answers with something else than a token") from None
        finally:
            connection.close()
        return _Token(_credential(said.access_token), time.time() + said.expires_in)

    async def _of_gcloud(self) -> _Token | None:
        path = shutil.which("gcloud", path=self._environ.get("PATH", os.defpath))
        if path is None:
            return None
        try:
            ended = await run(path, *_GCLOUD, environ=self._environ, limit=self._limit)
        except OSError as exc:
            raise CredentialError(f"cannot run {path}: {exc.strerror or type(exc).__name__}") from exc
        if ended is None:
            raise CredentialError(f"gcloud config config-helper: no answer within {self._limit:g} s, killed")
        if ended.status:
            return None  # nobody is logged in
        try:
            said = msgspec.json.decode(ended.stdout, type=_Helper).credential
            ends = datetime.fromisoformat(said.token_expiry).timestamp() if said.token_expiry else float("inf")
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
            raise CredentialError("gcloud config config-helper: the answer is not JSON with a token") from None
        return _Token(_credential(said.access_token), ends)

    def __repr__(self) -> str:
        return f"GoogleCredentials({'known' if self._known is not None else 'not asked'})"


def _credential(token: str) -> Credential:
    return Credential(username=_USER, password=token)


def _of_file(path: Path) -> _Token:
    """What a file of credentials stands for; in a thread.

    :raises CredentialError: when it is not there, or of no use
    """
    try:
        text = path.read_text(encoding="utf-8")
        info = json.loads(text)
    except OSError as exc:
        raise CredentialError(f"{path}: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError):
        raise CredentialError(f"{path} is not JSON") from None
    kind = info.get("type") if isinstance(info, dict) else None
    if not isinstance(kind, str):
        raise CredentialError(f"{path} holds no Google credentials")
    try:
        return _exchanged(info, path)
    except ImportError:
        if kind == "service_account":
            return _Token(Credential(username=_KEY_USER, password=text))
        raise CredentialError(f"{path} ({kind}) needs google-auth: pip install 'asyncrane[google]'") from None


def _exchanged(info: dict[str, Any], path: Path) -> _Token:
    """A token for what is in the file.

    :raises ImportError: when google-auth is not installed
    """
    import google.auth  # noqa: PLC0415  (an extra)
    import google.auth.exceptions  # noqa: PLC0415  (as above)
    import google.auth.transport.requests  # noqa: PLC0415  (as above)

    try:
        with warnings.catch_warnings():
            # about files from strangers; this one is the user's own
            warnings.simplefilter("ignore")
            load: Any = google.auth.load_credentials_from_dict
            found, _ = load(info, scopes=[_SCOPE])
        found.refresh(google.auth.transport.requests.Request())
    except (google.auth.exceptions.GoogleAuthError, ValueError) as exc:
        raise CredentialError(f"{path}: {' '.join(str(exc).split())[:200]}") from exc
    ends = found.expiry.replace(tzinfo=UTC).timestamp() if found.expiry else float("inf")
    return _Token(_credential(str(found.token)), ends)
