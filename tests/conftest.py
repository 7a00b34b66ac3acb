"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is no reason to fail; in CI the examples are the same every time, new ones are looked for elsewhere.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI", "").lower() in ("true", "1") else "here")
