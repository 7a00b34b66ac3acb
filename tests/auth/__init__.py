"""Tests of asyncrane.auth."""
