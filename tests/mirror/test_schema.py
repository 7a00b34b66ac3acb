"""The JSON Schema of mirror files says what the loader does, as far as a schema can."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from asyncrane.errors import InvalidMirrorSpec
from asyncrane.mirror import keys
from asyncrane.mirror.document import load_mirror
from asyncrane.mirror.schema import mirror_schema
from tests.mirror.files import SECRET, WHOLE
from tests.mirror.test_spec_errors import ERRORS

VALIDATOR = jsonschema.Draft202012Validator(mirror_schema())

ENTRY = {"from": "a:5000/x", "to": "b:5000/x"}
BEYOND = (
    "is there twice",
    "there is no",
    "is the registry",
    "not a registry",
    "no mirror of itself",
    "not a repository",
    "names no repository",
    "is a registry",
    "expected repositories",
    "not a pattern",
    "expected REGISTRY/REGEX",
    "outside",
    "not a regular expression",
    "needs another name",
    "{digest}",
    "not a platform",
    "not a version range",
    "not a time",
    "not a share",
    "not a size",
    "the environment variable",
    "more than",
)
"""What only reading the file finds out."""


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(mirror_schema())
    json.dumps(mirror_schema())


def test_every_key_of_the_loader_is_in_the_schema() -> None:
    """Both take their keys from one list; here it is seen that none is left out."""
    schema = mirror_schema()
    registry = schema["properties"]["registries"]["additionalProperties"]["properties"]
    entry = schema["$defs"]["entry"]["properties"]
    assert tuple(schema["properties"]) == keys.FILE
    assert tuple(registry) == keys.REGISTRY
    assert tuple(registry["credentials"]["properties"]) == keys.CREDENTIALS
    assert tuple(entry) == keys.ENTRY
    assert tuple(entry["tags"]["properties"]) == keys.TAGS


def test_the_example_fits(tmp_path: Path) -> None:
    """With every key there is."""
    quoted = WHOLE.replace("[registry-b:5000/copy/{path}, backup:5000/{registry}/{path}]", "['b:5000/{path}']")
    VALIDATOR.validate(YAML(typ="safe", pure=True).load(quoted))


def test_the_examples_of_the_manual_fit(tmp_path: Path) -> None:
    """For every program that reads YAML, as they stand."""
    manual = Path(__file__).parents[2] / "docs"
    found = [text for file in manual.glob("*.md") for text in re.findall(r"```ya?ml\n(.*?)```", file.read_text(), re.S)]
    examples = [_plain(text) for text in found if "mirrors:" in text]
    assert examples
    for example in examples:
        VALIDATOR.validate(example)


def _plain(text: str | bytes) -> Any:
    """The values of a YAML text as other programs see them."""
    return YAML(typ="safe", pure=True).load(text)


SYNTAX = ("nothing in it", "not YAML", "UTF-8", "an alias", "a tag ", "a second document", "as a key", "there twice")
FORM = [text for text, error in ERRORS if not any(reason in error for reason in (*BEYOND, *SYNTAX))]


@pytest.mark.parametrize("text", FORM)
def test_what_the_loader_refuses_for_its_form_the_schema_refuses(text: str) -> None:
    assert not VALIDATOR.is_valid(_plain(text))


GOOD = [
    {"from": "a:5000/**", "to": ["b:5000/{path}"]},
    {"from": {"regex": "a:5000/(.*)"}, "to": "b:5000/{1}"},
    {"from": {"registry": "a:5000", "regex": "(.*)"}, "to": "b:5000/{1}"},
    {**ENTRY, "tags": {"include": ["v*", 1.5], "exclude": 3, "regex": "", "semver": 1, "digest_tags": True}},
    {**ENTRY, "tags": {"latest": 3, "sort": "created", "since": "90d"}},
    {**ENTRY, "platforms": "all", "overwrite": "never", "referrers": False, "nondistributable": True},
    {**ENTRY, "platforms": "linux/amd64", "prune": {"enabled": True, "max": "10%", "keep": "x"}},
    {**ENTRY, "prune": {"enabled": False}},
    {**ENTRY, "prune": {"enabled": True, "max": 3}},
    {"image": "a:5000/x", "to": "b:5000/y"},
]


@pytest.mark.parametrize("entry", GOOD)
def test_what_the_loader_reads_fits_the_schema(tmp_path: Path, entry: dict[str, Any]) -> None:
    content = {"version": 1, "mirrors": [entry]}
    assert len(_load(tmp_path, content)) == 1
    VALIDATOR.validate(content)


def _load(folder: Path, content: Any) -> tuple[Any, ...]:
    path = folder / "mirror.json"
    path.write_text(json.dumps(content))
    return load_mirror(path, environ={"CI": SECRET}).rules


leaves: st.SearchStrategy[Any] = st.sampled_from(
    [
        "a:5000/x",
        "b:5000/{path}",
        "all",
        "auto",
        "v*",
        "10%",
        "90d",
        "CI",
        "mirror.json",
        "name",
        "semver",
        "",
        "create",
    ]
) | st.sampled_from([True, False, None, 0, 1, 2.5, [], {}])
NAMES = sorted({*keys.FILE, *keys.REGISTRY, *keys.ENTRY, *keys.TAGS, *keys.PRUNE, *keys.TLS, *keys.LIMITS, "zzz"})


def _changed(content: Any, data: st.DataObject, depth: int = 0) -> Any:
    """``content`` with something in it replaced, added or taken out."""
    if depth and data.draw(st.integers(0, 4)) == 0:
        return data.draw(leaves)
    if isinstance(content, dict) and content:
        changed = dict(content)
        key = data.draw(st.sampled_from(sorted(content)))
        match data.draw(st.sampled_from(["inside", "inside", "inside", "drop", "add"])):
            case "inside":
                changed[key] = _changed(content[key], data, depth + 1)
            case "drop":
                del changed[key]
            case _:
                changed[data.draw(st.sampled_from(NAMES))] = data.draw(leaves)
        return changed
    if isinstance(content, list) and content:
        at = data.draw(st.integers(0, len(content) - 1))
        return [*content[:at], _changed(content[at], data, depth + 1), *content[at + 1 :]]
    return data.draw(leaves)


REGISTRIES = {
    "a:5000": {"credentials": {"username": "ci", "password_env": "CI"}, "limits": {"requests": 4, "rate": "1M"}},
    "b:5000": {
        "credentials": {"helper": "ecr-login"},
        "tls": {"ca": "mirror.json", "cert": "mirror.json", "key": "mirror.json", "insecure": False},
        "mirrors": ["c:5000"],
        "on_missing_repository": {"command": ["x"]},
    },
}
DEFAULTS = {"tags": {"include": ["*"]}, "platforms": ["linux/amd64"], "referrers": True}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.sampled_from(GOOD), st.data())
def test_schema_and_loader_agree_about_every_file(tmp_path: Path, entry: dict[str, Any], data: st.DataObject) -> None:
    """Good files with one to three changes: what is read fits; what is not does not, or more than its form is wrong."""
    content: Any = {"version": 1, "registries": REGISTRIES, "defaults": DEFAULTS, "mirrors": [entry]}
    for _ in range(data.draw(st.integers(1, 3))):
        content = _changed(content, data)
    problem = _problem(tmp_path, content)
    if problem is None:
        VALIDATOR.validate(content)
    elif not any(reason in problem for reason in BEYOND):
        assert not VALIDATOR.is_valid(content), problem


def _problem(folder: Path, content: Any) -> str | None:
    try:
        _load(folder, content)
    except InvalidMirrorSpec as exc:
        return str(exc)
    return None
