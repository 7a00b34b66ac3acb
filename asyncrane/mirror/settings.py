"""``registries`` of a mirror file: how each registry is talked to."""

from __future__ import annotations

import re
from typing import Any

from asyncrane.auth.credentials import Credential
from asyncrane.mirror import keys
from asyncrane.mirror.keys import Context
from asyncrane.mirror.quantities import parse_size
from asyncrane.mirror.tree import Fields, Items, Node, Scalar, read_text, shown
from asyncrane.oci.reference import parse_registry
from asyncrane.transport.options import OnMissing, RegistryOptions

_SECRETS = ("password_env", "password_file", "password", "helper")
_PROGRAM = "docker-credential-"
_HELPER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def registries(node: Node, context: Context) -> dict[str, RegistryOptions]:
    """The options by registry; Docker Hub's aliases are one.

    :raises InvalidMirrorSpec: when something cannot be used, with its place
    """
    if not isinstance(node, Fields):
        raise node.error(f"registries: expected a mapping of hosts, not {node.kind}")
    found: dict[str, RegistryOptions] = {}
    for name, key in node.keys.items():
        host = keys.read(key, name, parse_registry)
        if host in found:
            raise key.error(f"{name} is the registry {host}, which is there already")
        found[host] = _options(host, node.values[name], context)
    return found


def _options(host: str, node: Node, context: Context) -> RegistryOptions:
    entry = keys.fields(node, keys.REGISTRY, host)
    found: dict[str, Any] = {}
    for name, value in entry.values.items():
        match name:
            case "credentials":
                found |= _credentials(value, context)
            case "tls":
                found |= _tls(value, context)
            case "limits":
                found |= _limits(value)
            case "mirrors":
                found["mirrors"] = tuple(_mirror(host, one) for one in keys.several(value))
            case _:
                found["on_missing"] = _on_missing(value)
    return RegistryOptions(**found)


def _credentials(node: Node, context: Context) -> dict[str, Any]:
    """A user and where the password is, or a helper. Nothing here may put a secret into a message."""
    entry = keys.fields(node, keys.CREDENTIALS, "credentials", secret=True)
    way = keys.only_one(entry, _SECRETS, "credentials")
    value = entry.values[way]
    if way == "helper":
        if "username" in entry.keys:
            raise entry.keys["username"].error("a helper knows the user name")
        name = keys.text(value)
        if name.startswith(_PROGRAM):
            raise value.error(f"not a credential helper: {shown(name)} (leave out {_PROGRAM})")
        if not _HELPER.fullmatch(name):
            raise value.error(
                f"not a credential helper: {shown(name)} (expected e.g. ecr-login, for docker-credential-ecr-login)"
            )
        return {"helper": name}
    username = keys.text(keys.needed(entry, "username", "credentials"))
    if ":" in username:
        raise entry.values["username"].error("a user name has no colon")
    return {"credential": Credential.of(username, _password(way, value, context))}


def _password(way: str, value: Node, context: Context) -> str:
    if way == "password":
        context.warn(value, "a password in the file: better password_env, password_file or helper")
        return keys.text(value, secret=True)
    if way == "password_env":
        name = keys.text(value)
        secret = context.environ.get(name, "")
        if not secret:
            raise value.error(
                f"the environment variable {shown(name)} is {'empty' if name in context.environ else 'not set'}"
            )
        return secret
    path = context.file(value)
    secret = read_text(path).rstrip("\r\n")
    if not secret:
        raise value.error(f"{path} is empty")
    return secret


def _tls(node: Node, context: Context) -> dict[str, Any]:
    entry = keys.fields(node, keys.TLS, "tls")
    found: dict[str, Any] = {}
    for name, value in entry.values.items():
        found[name] = keys.boolean(value) if name in ("insecure", "plain_http") else context.file(value)
    if "key" in found and "cert" not in found:
        raise entry.keys["key"].error("a key without its cert")
    if found.get("plain_http"):
        for name in ("ca", "cert"):
            if name in found:
                raise entry.keys[name].error(f"{name} has no effect with plain_http")
    return found


def _limits(node: Node) -> dict[str, Any]:
    entry = keys.fields(node, keys.LIMITS, "limits")
    found: dict[str, Any] = {}
    for name, value in entry.values.items():
        if name == "rate":
            found[name] = keys.read(value, keys.label(value), parse_size)
        elif not isinstance(value, Scalar) or value.text != "auto":
            found[name] = _number(value)
    return found


def _number(value: Node) -> int:
    if isinstance(value, Scalar) and not value.number:
        raise value.error(f"expected auto or a whole number, not {value.kind}")
    return keys.count(value, least=1)


def _mirror(host: str, node: Node) -> str:
    mirror = keys.read(node, keys.text(node), parse_registry)
    if mirror == host:
        raise node.error("a registry is no mirror of itself")
    return mirror


def _on_missing(node: Node) -> OnMissing:
    if isinstance(node, Fields):
        node.only(keys.ON_MISSING)
        command = keys.needed(node, "command", "on_missing_repository")
        return tuple(map(keys.text, keys.items(command, "command")))
    if isinstance(node, Items) or not isinstance(node, Scalar) or node.text not in ("fail", "create"):
        raise node.error(f"expected fail, create or {{command: [...]}}, not {node.kind}")
    return "create" if node.text == "create" else "fail"
