"""The engine: one pure scheduler decides, one runner does, and every blob crosses every wire at most once."""
