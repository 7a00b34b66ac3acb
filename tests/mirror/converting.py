"""Other tools' files, turned into mirror files."""

from __future__ import annotations

import re
from pathlib import Path

from asyncrane.mirror.convert import Converted, mirror_convert
from asyncrane.mirror.document import load_mirror
from asyncrane.mirror.select import choose
from asyncrane.mirror.spec import MirrorSpec, Rule

SECRET = "hunter2-do-not-print"
SKOPEO = f"""\
registry.example.com:
    images:
        busybox: []
        team/redis:
            - 1.10
            - "2.0"
            - "sha256:{"0" * 32}{"1" * 32}"
    images-by-tag-regex:
        nginx: ^v1\\.[02]
        httpd: "18|19$"
    images-by-semver:
        alpine: ">= 3.19, < 4"
        team/base: "~1.2 || =>2"
    credentials:
        username: john
        password: {SECRET}
    tls-verify: true
quay.io:
    tls-verify: false
    images:
        coreos/etcd:
            - latest
"""

REGSYNC = f"""\
version: 1
x-releases: &releases
  allow: ["v\\\\d+\\\\.\\\\d+\\\\.\\\\d+"]
creds:
  - registry: registry.local:5000
    tls: disabled
  - registry: docker.io
    user: mirror
    pass: '{{{{env "HUB_TOKEN"}}}}'
    reqConcurrent: 3
    mirrors: [cache.local:5000]
  - registry: ghcr.io
    user: robot
    pass: {SECRET}
    repoAuth: true
  - registry: 123456789012.dkr.ecr.eu-west-1.amazonaws.com
    credHelper: docker-credential-ecr-login
  - registry: quay.io
    user: file
    pass: '{{{{file "secrets/quay"}}}}'
    tls: insecure
    clientKey: {SECRET}
  - registry: own.example.com
    regcert: '{{{{file "certs/own.pem"}}}}'
    clientKey: |
      -----BEGIN PRIVATE KEY-----
      {SECRET}
      -----END PRIVATE KEY-----
defaults:
  backup: "bkup-{{{{.Ref.Tag}}}}"
  interval: 60m
  ratelimit: {{min: 100, retry: 15m}}
  parallel: 2
  referrers: true
sync:
  - source: busybox:latest
    target: registry.local:5000/library/busybox:latest
    type: image
  - source: ghcr.io/team/app:v1
    target: registry.local:5000/team/app:stable
    type: image
    referrers: false
  - source: alpine
    target: registry.local:5000/library/alpine
    type: repository
    schedule: "15 3 * * *"
    platforms: [linux/amd64, linux/arm64]
    tags:
      allow: [latest, "3", "3\\\\.\\\\d+"]
      deny: [".*18"]
  - source: ghcr.io/team/base
    target: registry.local:5000/team/base
    type: repository
    tags:
      <<: *releases
      semverRange: [">=1.1 <2", ">=3"]
  - source: ghcr.io/team/tools
    target: registry.local:5000/team/tools
    type: repository
    tagSets:
      - allow: [edge, latest]
      - allow: ["v.*"]
        deny: [".*-rc.*"]
  - source: quay.io
    target: registry.local:5000/quay
    type: registry
    repos:
      allow: ["org/.*"]
      deny: ["org/old.*"]
  - source: own.example.com
    target: registry.local:5000
    type: registry
  - source: ocidir:///var/lib/images
    target: registry.local:5000/images
    type: repository
"""

AUTH = f"""\
{{
\t"quay.io": {{"username": "bot", "password": "{SECRET}", "insecure": true}},
\t"quay.io/coreos": {{"username": "other", "password": "{SECRET}"}},
\t"docker.io": {{"username": "me", "password": "${{HUB_PASSWORD}}"}},
\t"registry.example.com": {{"username": "$ROBOT", "password": "$TOKEN"}}
}}
"""

IMAGES = f"""\
quay.io/coreos/proxy: registry.example.com/all/proxy
quay.io/coreos/proxy:v1.0: registry.example.com/one/proxy
quay.io/coreos/proxy:v1.0,v2.0: registry.example.com/some/proxy:a,b
quay.io/coreos/proxy@sha256:{"2" * 64}: registry.example.com/fixed/proxy
quay.io/coreos/proxy:v1.1:
  - registry.example.com/x/proxy
  - registry.example.com/y/proxy
nginx:/^v1/: registry.example.com/hub/nginx
quay.io/coreos/proxy:v3,v4: registry.example.com/odd/proxy:only
quay.io/coreos/proxy:v5: $WHERE/proxy
"""
TAGS = ["latest", "edge", "3", "3.18", "3.19", "3.20.1", "v1.0.0", "v1.2.3", "v1.2.3-rc.1", "v2.0.0", "1.13.1-alpine"]


def convert(folder: Path, *files: str, destination: str | None = None) -> Converted:
    """Write the files, and convert them."""
    paths = []
    for number, text in enumerate(files):
        paths.append(folder / f"file{number}.yml")
        paths[-1].write_text(text)
    return mirror_convert(paths, destination=destination)


def loaded(folder: Path, text: str) -> MirrorSpec:
    """What the written file means, with what it needs around it."""
    for name in ("secrets/quay", "certs/own.pem"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    path = folder / "mirror.yaml"
    path.write_text(text)
    names = re.findall(r"password_env: ([A-Za-z0-9_]+)", text)
    return load_mirror(path, environ=dict.fromkeys(names, "from the environment"))


def about(rule: Rule) -> tuple[str, list[str]]:
    """What a rule copies, and where to."""
    return str(rule.image or rule.source).replace("index.docker.io", "docker.io"), [str(to) for to in rule.to]


def chosen(spec: MirrorSpec, source: str) -> list[str]:
    """The tags that the rules for ``source`` select."""
    wanted = {tag for rule in spec.rules if about(rule)[0] == source for tag in choose(TAGS, rule.tags)}
    return [tag for tag in TAGS if tag in wanted]
