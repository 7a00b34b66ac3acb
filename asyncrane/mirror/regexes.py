"""What can be told of a regular expression without matching it."""

from __future__ import annotations

import re

_STRUCTURE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()|]", re.DOTALL)
_LITERAL = re.compile(r"(?:[A-Za-z0-9_/-]|\\[./-])*")


def has_branches(regex: str) -> bool:
    """Whether there is a ``|`` outside of all parentheses."""
    depth = 0
    for mark in _STRUCTURE.findall(regex):
        depth += (mark == "(") - (mark == ")")
        if mark == "|" and not depth:
            return True
    return False


def literal_start(regex: str) -> str:
    """What every text begins with that matches as a whole; may be less than there is."""
    if has_branches(regex):
        return ""
    text = regex.removeprefix("^")
    found = _LITERAL.match(text)
    start = found.group() if found is not None else ""
    if text[len(start) :].startswith(("*", "?", "{")):  # the last character may be missing
        start = start[:-1]
    return start.replace("\\", "")
