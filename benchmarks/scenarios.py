"""What is copied: the data sets, and the scenarios that copy them over a plain, encrypted or distant line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KB, MB, MIB = 1000, 1_000_000, 1 << 20


@dataclass(frozen=True)
class Layer:
    """A layer to be made: the same seed and size are the same bytes, hence one blob."""

    seed: int
    size: int


@dataclass(frozen=True)
class Image:
    """A tag to be made."""

    repository: str
    tag: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Dataset:
    """The images of one or more scenarios; ``name`` is also the first part of every repository's path."""

    name: str
    images: tuple[Image, ...]

    @property
    def repositories(self) -> tuple[str, ...]:
        """Every repository once, in order."""
        return tuple(dict.fromkeys(image.repository for image in self.images))


class Maker(Protocol):
    """Says what a data set is made of."""

    def __call__(self, *, quick: bool = False) -> Dataset: ...


@dataclass(frozen=True)
class Scenario:
    """One data set, copied under one condition; ``rtt`` is the round trip in seconds, 0 for the bare loopback."""

    name: str
    dataset: str
    tls: bool = False
    rtt: float = 0.0
    filled: bool = False  # the destination holds everything already
    rounds: int = 5  # how many rounds it gets when nobody says


def big(*, quick: bool = False) -> Dataset:
    """One image of four large layers: bandwidth, and the client's CPU per byte."""
    size = 8 * MIB if quick else 256 * MIB
    return Dataset("big", (Image("big/image", "latest", tuple(_layers(1, 4, size))),))


def fleet(*, quick: bool = False) -> Dataset:
    """Applications on few bases: a repository's images share four layers with every repository of the same base."""
    repositories, tags = (4, 4) if quick else (10, 20)
    base, own = (MB, 50 * KB) if quick else (20 * MB, MB // 2)
    bases = [tuple(_layers(1000 + 10 * kind, 4, base)) for kind in range(3)]
    images = (
        Image(
            f"fleet/app-{number:02}",
            f"v{tag}",
            bases[number % len(bases)] + tuple(_layers(100_000 + 10 * (number * tags + tag), 3, own)),
        )
        for number in range(repositories)
        for tag in range(tags)
    )
    return Dataset("fleet", tuple(images))


def tiny(*, quick: bool = False) -> Dataset:
    """Many images of next to nothing: the time is requests, and nothing can be shared."""
    repositories, tags = (2, 10) if quick else (5, 100)
    images = (
        Image(f"tiny/app-{number:02}", f"v{tag}", tuple(_layers(200_000 + number * tags + tag, 1, 10 * KB)))
        for number in range(repositories)
        for tag in range(tags)
    )
    return Dataset("tiny", tuple(images))


def scale(times: int, *, quick: bool = False) -> Dataset:
    """A small fleet, ``times`` as large: more repositories, and a base more for every five of them."""
    repositories, tags = 5 * times, 2 if quick else 10
    images = (
        Image(
            f"scale-{times}x/app-{number:03}",
            f"v{tag}",
            (*_layers(300_000 + 10 * (number // 5), 3, MB // 4), *_layers(400_000 + number * tags + tag, 1, 10 * KB)),
        )
        for number in range(repositories)
        for tag in range(tags)
    )
    return Dataset(f"scale-{times}x", tuple(images))


def _layers(seed: int, count: int, size: int) -> Iterator[Layer]:
    return (Layer(seed + number, size) for number in range(count))


SCALES = {f"scale-{times}x": times for times in (1, 4, 16)}

DATASETS: dict[str, Maker] = {"big": big, "fleet": fleet, "tiny": tiny}
DATASETS |= {name: partial(scale, times) for name, times in SCALES.items()}

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("big", "big"),
    Scenario("big-tls", "big", tls=True),
    Scenario("fleet", "fleet"),
    Scenario("fleet-tls", "fleet", tls=True),
    Scenario("fleet-50ms", "fleet", rtt=0.05, rounds=3),
    Scenario("fleet-200ms", "fleet", rtt=0.2, rounds=3),
    Scenario("tiny", "tiny"),
    Scenario("tiny-tls", "tiny", tls=True),
    Scenario("tiny-50ms", "tiny", rtt=0.05, rounds=3),
    Scenario("tiny-200ms", "tiny", rtt=0.2, rounds=3),
    Scenario("resync", "tiny", filled=True),
    Scenario("resync-50ms", "tiny", rtt=0.05, filled=True, rounds=3),
    *(Scenario(name, name, rounds=3) for name in SCALES),
)


def chosen(names: Iterable[str]) -> tuple[Scenario, ...]:
    """The named scenarios in the table's order (all when none is named), so that a data set is built once."""
    wanted = set(names)
    return tuple(scenario for scenario in SCENARIOS if not wanted or scenario.name in wanted)
