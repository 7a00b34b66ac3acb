"""The JSON Schema (2020-12) of mirror files, for editors and for checks before a commit.

It describes what a file's form decides: keys, types, fixed words, what excludes what. What needs more knowledge
(references, globs, ranges, files that are there) only reading the file tells.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from asyncrane.mirror import keys

Schema: TypeAlias = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_LABEL: Schema = {
    "anyOf": [_TEXT, {"type": "number"}],
    "description": "A text; 1.10 without quotes is read as it is written.",
}
_BOOLEAN: Schema = {"type": "boolean"}


def mirror_schema() -> Schema:
    """The schema, as JSON values."""
    schema = _mapping(
        keys.FILE,
        {
            "version": {"const": 1},
            "registries": {
                "description": "How registries are talked to, by host[:port].",
                "type": "object",
                "propertyNames": {"pattern": r"^[A-Za-z0-9\[][A-Za-z0-9_.:\[\]-]*$"},
                "additionalProperties": _registry(),
            },
            "defaults": _mapping(keys.DEFAULTS, _options(), "What entries start from; a key of theirs replaces it."),
            "mirrors": {
                "description": "What goes where.",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/entry"},
            },
        },
        required=("version", "mirrors"),
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A mirror file of asyncrane",
        **schema,
        "$defs": {"entry": _entry()},
    }


def _mapping(
    known: tuple[str, ...], properties: Schema, description: str = "", *, required: tuple[str, ...] = ()
) -> Schema:
    """An object with these keys and no others; ``known`` is what the reader takes, in its order."""
    schema: Schema = {
        "type": "object",
        "properties": {name: properties[name] for name in known},
        "additionalProperties": False,
    }
    if description:
        schema["description"] = description
    if required:
        schema["required"] = list(required)
    return schema


def _one_or_several(one: Schema, description: str, *, least: int = 0) -> Schema:
    several: Schema = {"type": "array", "items": one}
    if least:
        several["minItems"] = least
    return {"anyOf": [one, several], "description": description}


def _one_of(names: tuple[str, ...]) -> list[Schema]:
    return [{"required": [name]} for name in names]


def _text(description: str) -> Schema:
    return {**_TEXT, "description": description}


def _registry() -> Schema:
    return _mapping(
        keys.REGISTRY,
        {
            "credentials": _credentials(),
            "tls": _tls(),
            "limits": _limits(),
            "mirrors": _one_or_several(_TEXT, "Registries (host[:port]) that are asked first when reading."),
            "on_missing_repository": {
                "description": "What to do when a push finds no repository.",
                "anyOf": [
                    {"enum": ["fail", "create"]},
                    _mapping(
                        keys.ON_MISSING,
                        {"command": {"type": "array", "minItems": 1, "items": _TEXT}},
                        required=("command",),
                    ),
                ],
            },
        },
    )


def _credentials() -> Schema:
    schema = _mapping(
        keys.CREDENTIALS,
        {
            "username": {**_text("The user; <token> makes the password an identity token."), "pattern": "^[^:]*$"},
            "password_env": _text("The environment variable that has the password."),
            "password_file": _text("The file that has the password."),
            "password": _text("The password itself. Works, with a warning."),
            "helper": {
                **_text("NAME of a program docker-credential-NAME."),
                "pattern": "^(?!docker-credential-)[A-Za-z0-9_][A-Za-z0-9_.+-]*$",
            },
        },
    )
    ways = ("password_env", "password_file", "password")
    schema["oneOf"] = [
        *({"required": ["username", way], "properties": {"helper": False}} for way in ways),
        {"required": ["helper"], "properties": {"username": False}},
    ]
    return schema


def _tls() -> Schema:
    schema = _mapping(
        keys.TLS,
        {
            "ca": _text("A file of certificates to trust besides the system's."),
            "cert": _text("A client certificate, with its key in it or in 'key'."),
            "key": _text("The key of 'cert'."),
            "insecure": {**_BOOLEAN, "description": "Certificates are not verified."},
            "plain_http": {**_BOOLEAN, "description": "HTTP without TLS."},
        },
    )
    schema["dependentRequired"] = {"key": ["cert"]}
    schema["if"] = {"required": ["plain_http"], "properties": {"plain_http": {"const": True}}}
    schema["then"] = {"properties": {"ca": False, "cert": False}}
    return schema


def _limits() -> Schema:
    at_once = {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}
    return _mapping(
        keys.LIMITS,
        {
            "requests": {**at_once, "description": "Short requests at a time."},
            "streams": {**at_once, "description": "Blobs at a time."},
            "rate": {**_LABEL, "description": "Bytes a second in each direction, e.g. 50MiB/s."},
        },
    )


def _entry() -> Schema:
    schema = _mapping(
        keys.ENTRY,
        {
            "from": {
                "description": "Repositories: REGISTRY/GLOB, a regular expression, or a file of names.",
                "anyOf": [_TEXT, _source()],
            },
            "image": _text("One image, by tag or digest."),
            "images_file": _text("A file of images: one a line, a lock file, Kubernetes manifests."),
            "to": _one_or_several(
                _text("REGISTRY/PATH[:TAG] with {registry} {path} {name} {tag} {digest} and the groups of 'from'."),
                "Where to.",
                least=1,
            ),
            **_options(),
        },
        required=("to",),
    )
    schema["oneOf"] = _one_of(keys.SUBJECTS)
    schema["dependentRequired"] = {"tags": ["from"], "prune": ["from"]}
    return schema


def _source() -> Schema:
    schema = _mapping(
        keys.SOURCE,
        {
            "registry": _text("host[:port]; without it the expression, or each name, begins with it."),
            "regex": _text("A regular expression for whole paths; its groups can be used in 'to'."),
            "file": _text("A file with one repository a line."),
        },
    )
    schema["oneOf"] = _one_of(("regex", "file"))
    return schema


def _options() -> Schema:
    return {
        "tags": _tags(),
        "platforms": {
            "description": "all, or os/arch[/variant][:osversion] of those that are wanted.",
            "anyOf": [{"const": "all"}, _TEXT, {"type": "array", "minItems": 1, "items": _TEXT}],
        },
        "overwrite": {
            "enum": list(keys.OVERWRITE),
            "description": "What becomes of a tag that is there and names something else.",
        },
        "referrers": {**_BOOLEAN, "description": "Signatures, attestations, SBOMs go along."},
        "nondistributable": {**_BOOLEAN, "description": "So do layers that may not be distributed."},
        "prune": _prune(),
    }


def _tags() -> Schema:
    maybe = {"anyOf": [{"type": "string"}, {"type": "number"}]}
    schema = _mapping(
        keys.TAGS,
        {
            "include": _one_or_several(_LABEL, "Globs; a tag must match one."),
            "exclude": _one_or_several(_LABEL, "Globs; a tag must match none."),
            "regex": {**maybe, "description": "For whole tags; group 'version', or the first, is what is compared."},
            "semver": {**maybe, "description": "A range of versions, e.g. '>=1.20 <2'."},
            "latest": {"type": "integer", "minimum": 1, "description": "So many of those that are left."},
            "sort": {"enum": list(keys.SORT), "description": "What 'latest' goes by."},
            "since": _text("The age that images may have (90d), or the date they are from at the earliest."),
            "digest_tags": {**_BOOLEAN, "description": "sha256-... and cosign's tags are tags like others."},
        },
        "All that are given must hold; 'latest' comes last.",
    )
    schema["dependentRequired"] = {"latest": ["sort"], "sort": ["latest"]}
    return schema


def _prune() -> Schema:
    schema = _mapping(
        keys.PRUNE,
        {
            "enabled": {**_BOOLEAN, "description": "Tags that the source has no more are deleted."},
            "max": {
                "description": "How many tags of a repository may go at a time, or what share of them.",
                "anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "string", "pattern": r"^\s*[0-9]{1,3}(\.[0-9]{1,9})?\s*%$"},
                ],
            },
            "keep": _one_or_several(_LABEL, "Globs of tags that stay."),
        },
    )
    schema["if"] = {"required": ["enabled"], "properties": {"enabled": {"const": True}}}
    schema["then"] = {"required": ["max"]}
    return schema
