"""Which of several credentials is found."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from asyncrane.auth.credentials import ANONYMOUS, Credential
from asyncrane.auth.keychain import DefaultKeychain, FixedKeychain, Keychain, renew, variable
from asyncrane.errors import CredentialError
from tests.auth.conftest import User, auth

HOST = "registry.example:5000"


def login(name: str, key: str = HOST) -> dict[str, object]:
    return {"auths": {key: auth(name, "secret")}}


async def test_somebody_without_anything_is_anonymous(user: User) -> None:
    chain: Keychain = user.keychain()
    assert await chain.find(HOST, "a/b") == ANONYMOUS
    assert chain.headers() == {}
    chain.forget(HOST)
    assert isinstance(FixedKeychain(), Keychain)


async def test_the_longest_matching_path_wins(user: User) -> None:
    """C5: two logins on one host, and a third one below."""
    user.write(
        user.podman,
        {"auths": {HOST: auth("host", "p"), f"{HOST}/a": auth("a", "p"), f"{HOST}/a/b": auth("ab", "p")}},
    )
    chain = user.keychain()
    found = {path: (await chain.find(HOST, path)).username for path in ("a/b", "a/b/c", "a/c", "a", "ab", "b", "")}
    assert found == {"a/b": "ab", "a/b/c": "ab", "a/c": "a", "a": "a", "ab": "host", "b": "host", "": "host"}


async def test_a_path_beats_the_helper_of_its_host(user: User) -> None:
    """C5."""
    user.helper("one", {HOST: ("helper", "secret")})
    user.write(user.docker, {"auths": {f"{HOST}/team": auth("team", "p")}, "credHelpers": {HOST: "one"}})
    chain = user.keychain()
    assert (await chain.find(HOST, "team/app")).username == "team"
    assert (await chain.find(HOST, "other/app")).username == "helper"


async def test_files_are_asked_in_order_and_the_first_match_wins(user: User) -> None:
    places = [user.docker, user.podman, user.podman_config]
    for place in reversed(places):
        user.write(place, login(place.parent.name + str(places.index(place))))
        assert (await user.keychain().find(HOST)).username == place.parent.name + str(places.index(place))


async def test_a_file_without_a_match_does_not_hide_the_next(user: User) -> None:
    """Unlike crane, where a docker config file of any content switches podman's off."""
    user.write(user.docker, {"auths": {"other.example": auth("x", "y"), HOST: {}}})
    user.write(user.podman_config, login("podman"))
    assert (await user.keychain().find(HOST)).username == "podman"


async def test_registry_auth_file_stands_alone(user: User, tmp_path: Path) -> None:
    user.write(user.docker, login("docker"))
    user.environ["REGISTRY_AUTH_FILE"] = str(user.write(tmp_path / "explicit.json", login("explicit")))
    assert (await user.keychain().find(HOST)).username == "explicit"
    user.write(tmp_path / "explicit.json", {})
    assert await user.keychain().find(HOST) == ANONYMOUS


async def test_docker_config_moves_the_file(user: User, tmp_path: Path) -> None:
    user.write(user.docker, login("home"))
    user.write(tmp_path / "elsewhere" / "config.json", login("elsewhere"))
    user.environ["DOCKER_CONFIG"] = str(tmp_path / "elsewhere")
    assert (await user.keychain().find(HOST)).username == "elsewhere"


async def test_xdg_config_home_moves_podmans_file(user: User, tmp_path: Path) -> None:
    user.write(tmp_path / "xdg" / "containers" / "auth.json", login("xdg"))
    user.environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert (await user.keychain().find(HOST)).username == "xdg"


async def test_docker_auth_config_works_without_any_file(user: User) -> None:
    """Trap 7 of crane: it ignores the variable unless some file exists."""
    user.environ["DOCKER_AUTH_CONFIG"] = json.dumps(login("ci"))
    assert (await user.keychain().find(HOST)).username == "ci"
    user.write(user.docker, login("docker"))
    assert (await user.keychain().find(HOST)).username == "ci"


async def test_a_malformed_variable_is_named_and_not_quoted(user: User) -> None:
    user.environ["DOCKER_AUTH_CONFIG"] = "hunter2"
    with pytest.raises(CredentialError, match="DOCKER_AUTH_CONFIG") as caught:
        await user.keychain().find(HOST)
    assert "hunter2" not in str(caught.value)
    user.environ[variable(HOST)] = "hunter2"
    with pytest.raises(CredentialError, match="ASYNCRANE_AUTH_REGISTRY_EXAMPLE_5000: ") as caught:
        await user.keychain().find(HOST)
    assert "hunter2" not in str(caught.value)


async def test_a_malformed_file_is_an_error_and_not_anonymous(user: User) -> None:
    user.write(user.podman, '{"auths": hunter2')
    with pytest.raises(CredentialError, match=str(user.podman)) as caught:
        await user.keychain().find(HOST)
    assert "hunter2" not in str(caught.value)


async def test_a_variable_per_registry_comes_first_and_leaves_no_file(user: User) -> None:
    """C6: nothing is written, nothing is shown."""
    user.write(user.docker, login("docker"))
    before = sorted(user.home.rglob("*"))
    user.environ["ASYNCRANE_AUTH_REGISTRY_EXAMPLE_5000"] = "env:hunter2"
    chain = user.keychain()
    assert await chain.find(HOST, "a") == Credential("env", "hunter2")
    assert (await chain.find("registry.example")).anonymous
    assert sorted(user.home.rglob("*")) == before
    assert "hunter2" not in repr(chain)


@pytest.mark.parametrize("name", ["ASYNCRANE_AUTH_DOCKER_IO", "ASYNCRANE_AUTH_INDEX_DOCKER_IO"])
async def test_docker_hub_has_two_names_for_its_variable(user: User, name: str) -> None:
    user.environ[name] = "env:secret"
    assert (await user.keychain().find("index.docker.io", "library/alpine")).username == "env"


async def test_headers_come_from_dockers_file_without_the_user_agent(user: User) -> None:
    user.write(user.docker, {"HttpHeaders": {"X-Team": "a", "User-agent": "Docker", "X-Null": None}})
    user.environ["REGISTRY_AUTH_FILE"] = "/nonexistent/auth.json"
    assert user.keychain().headers() == {"X-Team": "a"}


async def test_docker_hub_is_found_and_asked_for_by_its_old_url(user: User) -> None:
    user.helper("one", {"https://index.docker.io/v1/": ("hub", "secret")})
    user.write(user.docker, {"credsStore": "one"})
    assert (await user.keychain().find("index.docker.io", "library/alpine")).username == "hub"


async def test_what_the_store_does_not_know_may_still_be_in_the_file(user: User) -> None:
    user.helper("all", {"other.example": ("x", "y")})
    user.write(user.docker, {"credsStore": "all", **login("file")})
    assert (await user.keychain().find(HOST)).username == "file"


async def test_a_renewed_secret_is_asked_for_once_by_many(user: User) -> None:
    """C3: the helper's credential runs out in the middle; one helper run serves every task that was refused."""
    user.helper("cloud", {HOST: ("user", "A")})
    user.write(user.docker, {"credHelpers": {HOST: "cloud"}})
    chain, found = user.keychain(), list[Credential]()

    async def refused(credential: Credential) -> None:
        found.append(await renew(chain, credential, HOST, "a/b"))

    first = await chain.find(HOST, "a/b")
    user.helper("cloud", {HOST: ("user", "B")})
    assert await chain.find(HOST, "a/b") == first
    async with anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(refused, first)
    await refused(first)
    assert {credential.password for credential in found} == {"B"}
    assert user.calls("cloud") == [f"get {HOST}"] * 2


async def test_a_login_during_the_run_is_noticed_after_a_refusal(user: User) -> None:
    """C3."""
    user.write(user.docker, login("old"))
    chain = user.keychain()
    old = await chain.find(HOST)
    user.write(user.docker, login("new"))
    assert (await renew(chain, old, HOST)).username == "new"


async def test_a_refusal_of_one_registry_leaves_the_others_alone(user: User) -> None:
    user.helper("all", {HOST: ("u", "p"), "other.example": ("u", "p")})
    user.write(user.docker, {"credsStore": "all"})
    chain = user.keychain()
    for _ in range(2):
        await chain.find(HOST)
        await chain.find("other.example")
        chain.forget(HOST)
    assert user.calls("all") == [f"get {HOST}", "get other.example", f"get {HOST}"]
    assert chain.statistics() == {"runs": 3, "known": 1}


def test_a_user_id_without_a_home_is_nobody() -> None:
    assert "podman" not in repr(DefaultKeychain(environ={"HOME": "", "DOCKER_CONFIG": "/nonexistent"}))
