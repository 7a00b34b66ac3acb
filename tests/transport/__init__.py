"""Tests of asyncrane.transport: real servers on loopback, no mocks."""
