"""The benchmark harness: its pure parts, its proxy and its launcher."""
