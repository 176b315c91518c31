"""Moments from outside, as the core counts them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cpa.errors import InvalidDocument

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def milliseconds(moment: datetime, field: str) -> int:
    """Since 1970 UTC. `InvalidDocument` outside 1970 to 8999, where arithmetic on it would no longer be
    safe."""
    try:
        if _EPOCH <= moment < _LAST:
            return (moment - _EPOCH) // timedelta(milliseconds=1)
    except OverflowError:
        pass
    raise InvalidDocument(
        "this time is out of range",
        field=field,
        value=moment.isoformat(),
        remedy="a time from 1970 to 8999, with zone",
    )
