"""asyncrane: move container images between OCI registries."""

from asyncrane._version import __version__

__all__ = ["__version__"]
