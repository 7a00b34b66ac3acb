"""What a comparison finds: differences, and how much was compared."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal[
    "missing",
    "different",
    "extra",
    "missing-repository",
    "extra-repository",
    "missing-manifest",
    "missing-blob",
    "missing-referrer",
    "corrupt",
    "corrupt-blob",
    "unreadable",
]
"""What is wrong with an image at its destination: it is not there; its tag names another; nobody wants it. Of a deep
comparison: it is there, and a manifest, a blob or something attached to it is not; a manifest's bytes do not hash to
its digest; a blob has another size. ``unreadable``: there was no clear answer, so nothing is known.
"""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One difference. ``source`` and ``destination`` name the image, or the repository.

    ``expected`` is the digest that should be there: the image's, or that of what is missing from it; ``found`` is what
    is there instead. ``within`` is the manifest that names what is missing, or that it is attached to, and ``tag`` the
    tag by which it is attached.
    """

    kind: Kind
    source: str = ""
    destination: str = ""
    expected: str = ""
    found: str = ""
    within: str = ""
    tag: str = ""
    detail: str = ""

    @property
    def about(self) -> tuple[str, ...]:
        """What is different, whatever was found about it: by this two comparisons tell the same difference."""
        return self.source, self.destination, self.expected or self.within, self.tag


class Totals(msgspec.Struct, frozen=True):
    """How many images were compared, and how many differences were told."""

    compared: int = 0
    differences: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.compared + other.compared, self.differences + other.differences)
