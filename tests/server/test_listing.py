"""Tags, catalog and referrers, page by page (the registry's pages have at most 5 entries)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncrane.oci import media
from asyncrane.oci.digest import Digest
from tests.server.client import Client, described

TAGS = ["1.0", "A", "B", "_x", "a", "b", "c-1", "c-2", "latest", "v1", "v2", "z"]


async def pages(client: Client, target: str, key: str) -> list[list[Any]]:
    """Every page, found by following Link."""
    found = []
    while target:
        answer = await client.ask("GET", target)
        assert answer.status == 200
        found.append(answer.json[key])
        link = answer.headers.get("Link", "")
        target = link.partition(">")[0].removeprefix("<")
        assert not link or link.endswith('>; rel="next"')
    return found


def flat(found: list[list[Any]]) -> list[Any]:
    return [entry for page in found for entry in page]


@pytest.mark.parametrize(("query", "lengths"), [("", [5, 5, 2]), ("?n=3", [3, 3, 3, 3]), ("?n=1000", [5, 5, 2])])
async def test_tags_come_sorted_in_pages(client: Client, query: str, lengths: list[int]) -> None:
    for tag in reversed(TAGS):
        await client.push_image("a/b", tag=tag)
    found = await pages(client, f"/v2/a/b/tags/list{query}", "tags")
    assert [len(page) for page in found] == lengths
    assert flat(found) == TAGS


async def test_a_page_starts_after_last_whether_last_is_there_or_not(client: Client) -> None:
    for tag in ("a", "c", "e"):
        await client.push_image("a/b", tag=tag)
    for last, tags in (("a", ["c", "e"]), ("b", ["c", "e"]), ("e", []), ("", ["a", "c", "e"])):
        assert (await client.ask("GET", f"/v2/a/b/tags/list?last={last}")).json["tags"] == tags


async def test_no_entries_and_no_link_for_n_0(client: Client) -> None:
    await client.push_image("a/b", tag="a")
    answer = await client.ask("GET", "/v2/a/b/tags/list?n=0")
    assert (answer.json["tags"], "Link" in answer.headers) == ([], False)


@pytest.mark.parametrize("count", ["-1", "x", "1.5", "%D9%A1"])
async def test_n_must_be_a_number(client: Client, count: str) -> None:
    await client.push_image("a/b", tag="a")
    answer = await client.ask("GET", f"/v2/a/b/tags/list?n={count}")
    assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


async def test_tags_of_an_unknown_repository_are_not_found(client: Client) -> None:
    answer = await client.ask("GET", "/v2/no/such/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


async def test_the_catalog_lists_every_repository_in_pages(client: Client) -> None:
    names = [*(f"team{number}/app" for number in range(7)), "x", "x/tags/list/y"]
    for name in names:
        await client.push_image(name, tag="v1")
    found = await pages(client, "/v2/_catalog?n=4", "repositories")
    assert [len(page) for page in found] == [4, 4, 1]
    assert flat(found) == names


async def attached(client: Client, subject: Digest, number: int, artifact_type: str) -> Digest:
    """Push an artifact attached to ``subject``."""
    return await client.push_manifest(
        "a/b",
        {
            **await client.image("a/b"),
            "artifactType": artifact_type,
            "subject": {"mediaType": media.OCI_MANIFEST, "digest": subject, "size": 100},
            "annotations": {"number": str(number)},
        },
    )


async def test_referrers_are_listed_in_pages_and_by_type(client: Client) -> None:
    subject = await client.push_image("a/b", tag="v1")
    kinds = ["application/sbom+json", "application/signature"]
    digests = [await attached(client, subject, number, kinds[number % 2]) for number in range(12)]
    answer = await client.ask("GET", f"/v2/a/b/referrers/{subject}")
    assert (answer.headers["Content-Type"], answer.json["mediaType"]) == (media.OCI_INDEX, media.OCI_INDEX)
    assert "OCI-Filters-Applied" not in answer.headers
    found = flat(await pages(client, f"/v2/a/b/referrers/{subject}", "manifests"))
    assert [entry["digest"] for entry in found] == sorted(digests)
    target = f"/v2/a/b/referrers/{subject}?artifactType=application%2Fsbom%2Bjson"
    assert (await client.ask("GET", target)).headers["OCI-Filters-Applied"] == "artifactType"
    filtered = await pages(client, target, "manifests")
    assert [len(page) for page in filtered] == [5, 1]
    assert {entry["artifactType"] for entry in flat(filtered)} == {kinds[0]}
    entry = next(entry for entry in found if entry["digest"] == digests[3])
    body = (await client.ask("GET", f"/v2/a/b/manifests/{digests[3]}")).body
    assert entry == {
        "mediaType": media.OCI_MANIFEST,
        "digest": digests[3],
        "size": len(body),
        "artifactType": kinds[1],
        "annotations": {"number": "3"},
    }


async def test_a_subject_may_be_missing_and_its_referrers_are_listed(client: Client) -> None:
    subject = Digest.of(b"not pushed yet")
    body = json.dumps(
        {
            **await client.image("a/b"),
            "subject": {"mediaType": media.OCI_MANIFEST, "digest": subject, "size": 14},
        }
    ).encode()
    answer = await client.put_manifest("a/b", Digest.of(body), body, media.OCI_MANIFEST)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, subject)
    [entry] = (await client.ask("GET", f"/v2/a/b/referrers/{subject}")).json["manifests"]
    assert entry["artifactType"] == media.OCI_CONFIG
    assert (await client.ask("DELETE", f"/v2/a/b/manifests/{entry['digest']}")).status == 202
    assert (await client.ask("GET", f"/v2/a/b/referrers/{subject}")).json["manifests"] == []


async def test_no_referrers_are_an_empty_index(client: Client) -> None:
    answer = await client.ask("GET", f"/v2/no/such/referrers/{Digest.of(b'x')}")
    assert (answer.status, answer.json["manifests"]) == (200, [])


async def test_an_index_can_be_attached_too(client: Client) -> None:
    subject = described(b"subject", media.OCI_MANIFEST)
    fields = {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": [], "artifactType": "application/x"}
    digest = await client.push_manifest("a/b", fields | {"subject": subject})
    [entry] = (await client.ask("GET", f"/v2/a/b/referrers/{subject['digest']}")).json["manifests"]
    assert (entry["digest"], entry["mediaType"], entry["artifactType"]) == (digest, media.OCI_INDEX, "application/x")
