"""The only HTTP client: what leaves this process for a registry leaves through here.

:class:`~asyncrane.transport.pool.Pool` owns the connections, :class:`~asyncrane.transport.origin.Origin` is one
registry: its scheme, tokens, limits and manners. Policy (challenges, retries, proxies) is pure and knows no sockets.
"""

from __future__ import annotations

from asyncrane.transport.answer import Answer, Body
from asyncrane.transport.capabilities import Capabilities
from asyncrane.transport.challenge import catalog_scope, delete_scope, pull_scope, push_scope
from asyncrane.transport.origin import Origin
from asyncrane.transport.pool import Pool
from asyncrane.transport.statistics import OriginStatistics
from asyncrane.transport.tokens import Token

__all__ = [
    "Answer",
    "Body",
    "Capabilities",
    "Origin",
    "OriginStatistics",
    "Pool",
    "Token",
    "catalog_scope",
    "delete_scope",
    "pull_scope",
    "push_scope",
]
