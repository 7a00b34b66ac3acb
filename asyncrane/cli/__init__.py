"""The command line: words in, one public function of the package called, results and errors out."""

from __future__ import annotations

import sys


def main() -> int:
    """Where the program starts. Loading the rest takes a moment in which Ctrl-C may already come."""
    try:
        from asyncrane.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("asyncrane: interrupted\n")
        return 130
    return run()
