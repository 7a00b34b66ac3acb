"""``python -m asyncrane`` is ``asyncrane``."""

from __future__ import annotations

import sys

from asyncrane.cli import main

if __name__ == "__main__":
    sys.exit(main())
