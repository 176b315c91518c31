"""Plans as they are stored, and what follows from them; the same plan submitted again costs nothing."""

from __future__ import annotations

import hashlib
from collections import deque

import msgspec

from cpa.core.job import Graph, JobSpec

_encode = msgspec.json.Encoder().encode
_KEPT = 8


def digest_of(spec: JobSpec) -> str:
    """SHA-256 of the stored form, hexadecimal."""
    return hashlib.sha256(_encode(spec)).hexdigest()


class Graphs:
    def __init__(self) -> None:
        self._known: deque[tuple[JobSpec, Graph, bytes, str]] = deque(maxlen=_KEPT)

    def of(self, spec: JobSpec) -> tuple[Graph, bytes, str]:
        """Parsed graph, stored bytes and digest."""
        for known, graph, encoded, digest in self._known:
            if known is spec:
                return graph, encoded, digest
        encoded = _encode(spec)
        entry = (spec, Graph(spec), encoded, hashlib.sha256(encoded).hexdigest())
        self._known.append(entry)
        return entry[1:]
