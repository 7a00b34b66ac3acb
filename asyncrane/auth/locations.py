"""Which credential files there are, in the order in which they are asked.

Docker and crane users keep ``config.json``, podman and skopeo users ``auth.json``; the order serves both: a file that
was named explicitly is the only one, else docker's comes first, as in crane, then podman's (containers-auth.json(5)).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def home_of(environ: Mapping[str, str]) -> Path | None:
    """The home directory, ``None`` for a user id that has none (as in containers)."""
    if text := environ.get("HOME"):
        return Path(text)
    try:
        return Path.home()
    except RuntimeError:
        return None


def docker_config(environ: Mapping[str, str], home: Path | None) -> Path | None:
    """``config.json`` in ``$DOCKER_CONFIG`` or ``~/.docker``."""
    if directory := environ.get("DOCKER_CONFIG"):
        return Path(directory) / "config.json"
    return home / ".docker" / "config.json" if home else None


def search_order(environ: Mapping[str, str], home: Path | None) -> tuple[Path, ...]:
    """Every file to look in; the first with a match wins. ``REGISTRY_AUTH_FILE`` stands alone."""
    if explicit := environ.get("REGISTRY_AUTH_FILE"):
        return (Path(explicit),)
    found = (
        docker_config(environ, home),
        _runtime(environ),
        _config_home(environ, home),
    )
    return tuple(path for path in found if path)


def login_file(environ: Mapping[str, str], home: Path | None) -> Path | None:
    """The file that ``auth login`` writes: the first of :func:`search_order`."""
    if explicit := environ.get("REGISTRY_AUTH_FILE"):
        return Path(explicit)
    return docker_config(environ, home)


def _runtime(environ: Mapping[str, str]) -> Path | None:
    """Where ``podman login`` writes; a user without a session, such as root, has no ``XDG_RUNTIME_DIR``."""
    if directory := environ.get("XDG_RUNTIME_DIR"):
        return Path(directory) / "containers" / "auth.json"
    return Path("/run/containers") / str(os.getuid()) / "auth.json" if hasattr(os, "getuid") else None


def _config_home(environ: Mapping[str, str], home: Path | None) -> Path | None:
    if directory := environ.get("XDG_CONFIG_HOME"):
        return Path(directory) / "containers" / "auth.json"
    return home / ".config" / "containers" / "auth.json" if home else None
