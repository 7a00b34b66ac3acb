"""Projections of a run: one page to look at, and numbers for Prometheus. Nothing here keeps a book of its own."""
