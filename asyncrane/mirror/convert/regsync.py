"""``regsync.yml``: logins, defaults and steps that copy a registry, a repository or an image.

(regclient ``cmd/regsync/config.go``, ``config/host.go``; tags and repositories match as a whole.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asyncrane.errors import InvalidInput
from asyncrane.mirror.convert import patterns
from asyncrane.mirror.convert.reading import boolean, others, section, sections, string, strings
from asyncrane.mirror.convert.writing import Draft, host_of, shown
from asyncrane.oci.platform import Platform
from asyncrane.oci.reference import Reference, Repository

_ENVIRONMENT = re.compile(r"\{\{-?\s*env\s+[\"'`](\w+)[\"'`]\s*-?\}\}")
_FILE = re.compile(r"\{\{-?\s*file\s+[\"'`]([^\"'`]+)[\"'`]\s*-?\}\}")
_HELPER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_TEMPLATE = re.compile(r"\{\{")
_FILES = {"regcert": "ca", "clientCert": "cert", "clientKey": "key"}
_CREDENTIALS = frozenset(
    {
        "registry",
        "user",
        "pass",
        "token",
        "credHelper",
        "tls",
        "scheme",
        "hostname",
        "mirrors",
        "reqConcurrent",
        *_FILES,
    }
)
_INHERITED = ("digestTags", "referrers", "includeExternal")
_WITHOUT = {
    "backup": "an overwritten tag is not copied aside: 'mirror rollback' puts it back from the journal",
    "interval": "when to run is left to cron or a timer",
    "schedule": "when to run is left to cron or a timer",
    "ratelimit": "what a registry says of its limits is obeyed without a setting",
    "referrerFilters": "all that is attached goes along, or nothing",
    "referrerSource": "what is attached is looked for beside its image",
    "referrerTarget": "what is attached goes beside its image",
    "referrerSlow": "it is not needed",
    "fastCheck": "it is not needed: attached manifests cost no request for each of them",
    "forceRecursive": "'mirror verify --deep --repair' looks below images that are equal",
    "mediaTypes": "every kind of manifest is copied",
    "hooks": "no commands are run",
    "parallel": "how much runs at once adapts, or is '--jobs'",
    "blobLimit": "it is not needed: blobs are never held in memory",
    "cacheCount": "it is not needed",
    "cacheTime": "it is not needed",
    "skipDockerConfig": "docker's configuration is read where a registry has no credentials here",
    "userAgent": "it cannot be chosen",
}
_RANGES = (
    "semverRange: the ranges are written out, as pre-releases (-rc.1, -alpine) count there; four numbers (1.2.3.4), "
    "leading zeros (2024.05) and dates in one number are versions there, and none here"
)
_FILE_KEYS = frozenset({"version", "creds", "defaults", "sync"})
_TAGS = frozenset({"allow", "deny", "semverRange"})
_STEP = frozenset({"source", "target", "type", "tags", "tagSets", "repos", "platform", "platforms", *_INHERITED})


def recognised(fields: Mapping[str, Any]) -> bool:
    """Whether this is such a file."""
    return isinstance(fields.get("sync"), list) or (isinstance(fields.get("creds"), list) and "mirrors" not in fields)


def convert(fields: Mapping[str, Any], draft: Draft) -> None:
    """Put into ``draft`` what the file means."""
    for key in others(fields, _FILE_KEYS):
        if not key.startswith("x-"):  # by Compose's custom a place for YAML anchors
            draft.note(f"{key!r} is not known here, and left out")
    for entry in sections(fields.get("creds")):
        _credentials(entry, draft)
    defaults = section(fields.get("defaults"))
    _lost("defaults", defaults, draft)
    draft.defaults["referrers"] = bool(_attached(defaults))
    for number, step in enumerate(sections(fields.get("sync")), start=1):
        _lost(f"step {number}", step, draft)
        try:
            _Step({**{key: defaults[key] for key in _INHERITED if key in defaults}, **step}, draft).add()
        except InvalidInput as exc:
            draft.note(f"step {number}: left out: {exc}")


def _credentials(entry: Mapping[str, Any], draft: Draft) -> None:
    host = host_of(string(entry.get("registry")))
    if host is None:
        draft.note("creds: left out: an entry whose registry is none")
        return
    _login(host, entry, draft)
    tls = string(entry.get("tls")).lower()
    if tls == "insecure":
        draft.tls(host, insecure=True)
    elif tls == "disabled" or string(entry.get("scheme")) == "http":
        draft.tls(host, plain_http=True)
    else:
        for key, setting in _FILES.items():
            if value := string(entry.get(key)):
                _certificate(host, key, setting, value, draft)
    if found := [mirror for mirror in map(host_of, strings(entry.get("mirrors"))) if mirror]:
        draft.registry(host)["mirrors"] = found
    requests = string(entry.get("reqConcurrent"))
    if requests.isdecimal() and int(requests):
        draft.registry(host)["limits"] = {"requests": int(requests)}
    hostname = host_of(string(entry.get("hostname")))
    if hostname not in (None, host):
        draft.note(f"{host}: it is reached as {hostname}: write that name wherever {host} is named here")
    for key in others(entry, _CREDENTIALS):
        draft.note(f"{host}: {key!r} is not known here, and left out")


def _login(host: str, entry: Mapping[str, Any], draft: Draft) -> None:
    if helper := string(entry.get("credHelper")):
        name = helper.rpartition("docker-credential-")[2]
        if _HELPER.fullmatch(name):
            draft.registry(host)["credentials"] = {"helper": name}
        else:
            draft.note(f"{host}: credHelper: left out: that is no docker-credential-... program")
        return
    user, password = string(entry.get("user")), string(entry.get("pass"))
    if string(entry.get("token")):
        draft.note(f"{host}: the token is not taken over: log in with 'asyncrane auth login {host}'")
    if not user:
        return
    if _TEMPLATE.search(user):
        draft.note(f"{host}: the user name is a template: write it into the file, with a password_env")
        return
    variable, file = _ENVIRONMENT.fullmatch(password), _FILE.fullmatch(password)
    draft.login(host, user, variable=variable[1] if variable else "", file=file[1] if file else "")


def _certificate(host: str, key: str, setting: str, value: str, draft: Draft) -> None:
    """Certificates stand in the file itself, or are read from another with a template."""
    if file := _FILE.fullmatch(value.strip()):
        draft.tls(host, **{setting: file[1]})
    else:
        draft.note(f"{host}: {key}: write it to a file of its own, and name that under 'tls' as {setting!r}")


def _lost(where: str, settings: Mapping[str, Any], draft: Draft) -> None:
    for key in others(settings, _STEP):
        draft.note(f"{where}: {key}: {_WITHOUT.get(key, 'it is not known here, and left out')}")
    for name in ("tags", "tagSets", "repos"):
        for chosen in (section(settings.get(name)), *sections(settings.get(name))):
            for key in others(chosen, _TAGS):
                draft.note(f"{where}: {name}: {key!r} is not known here, and left out")


def _attached(step: Mapping[str, Any]) -> bool:
    return bool(boolean(step.get("referrers")) or boolean(step.get("digestTags")))


class _Step:
    """One entry of ``sync``, the defaults filled in."""

    def __init__(self, step: Mapping[str, Any], draft: Draft) -> None:
        self._step = step
        self._draft = draft
        self._more: dict[str, Any] = {}

    def add(self) -> None:
        """Put what it copies into the draft.

        :raises InvalidInput: when it says something that cannot be said here, or makes no sense
        """
        source, target, kind = (string(self._step.get(key)) for key in ("source", "target", "type"))
        for text in (source, target):
            if _TEMPLATE.search(text):
                raise patterns.Untranslatable("its source or target is a template")
            if text.startswith("ocidir://"):
                raise patterns.Untranslatable("directories are copied with 'asyncrane push' and 'pull'")
        self._options()
        match kind:
            case "image":
                self._image(source, target)
            case "repository":
                self._repository(source, target)
            case "registry":
                self._registry(source, target)
            case _:
                raise patterns.Untranslatable(f"a step is of type registry, repository or image, not {kind[:40]!r}")

    def _options(self) -> None:
        attached = _attached(self._step)
        if boolean(self._step.get("referrers")) != boolean(self._step.get("digestTags")) and attached:
            self._draft.note("referrers and digestTags are one: what is attached by subject and by tag goes along")
        if attached != self._draft.defaults["referrers"]:
            self._more["referrers"] = attached
        if boolean(self._step.get("includeExternal")):
            self._more["nondistributable"] = True
        if platforms := strings(self._step.get("platforms")) or strings(self._step.get("platform")):
            self._more["platforms"] = [str(Platform.parse(text)) for text in platforms]
            if strings(self._step.get("platforms")):
                self._draft.note(
                    "platforms: only the images of these are copied, in an index of their own (a single one without), "
                    "whose digest is another"
                )

    def _image(self, source: str, target: str) -> None:
        image, to = Reference.parse(source), Reference.parse(target)
        if to.digest is not None:
            raise patterns.Untranslatable("a target cannot be a digest")
        same = to.tag == image.tag
        self._draft.image(shown(image), [shown(to.repository if same else to)], **self._more)

    def _repository(self, source: str, target: str) -> None:
        name, to = Repository.parse(source), Repository.parse(target)
        for tags in self._tag_rules():
            self._draft.repository(shown(name), [shown(to)], tags=tags, **self._more)

    def _registry(self, source: str, target: str) -> None:
        host, to = host_of(source), target.removesuffix("/")
        if host is None or host_of(to.partition("/")[0]) is None:
            raise patterns.Untranslatable("its source or target is not a registry")
        repos = section(self._step.get("repos"))
        allow, deny = _lists(repos)
        for tags in self._tag_rules():
            if allow or deny:
                regex = patterns.either(allow, deny)
                self._draft.matching(host, regex, [f"{to}/{{path}}"], tags=tags, **self._more)
            else:
                self._draft.repository(f"{host}/**", [f"{to}/{{path}}"], tags=tags, **self._more)

    def _tag_rules(self) -> Iterator[dict[str, Any]]:
        """Each selects some of what is wanted; none at all are given for all tags."""
        sets = sections(self._step.get("tagSets"))
        tags = section(self._step.get("tags"))
        if any(tags.values()):
            sets.append(tags)
        if any(wanted.get("semverRange") for wanted in sets):
            self._draft.note(_RANGES)
        for wanted in sets or [{}]:
            yield _tag_rule(wanted)


def _tag_rule(wanted: Mapping[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    allow, deny = _lists(wanted)
    include, exclude = patterns.globs(allow), patterns.globs(deny)
    if include is None or exclude is None:
        rule["regex"] = patterns.either(allow, deny)
    else:
        if include and "*" not in include:
            rule["include"] = include
        if exclude:
            rule["exclude"] = exclude
    if ranges := strings(wanted.get("semverRange")):
        rule["semver"] = patterns.regclient_range(*ranges)
    return rule


def _lists(wanted: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
    return strings(wanted.get("allow")), strings(wanted.get("deny"))
