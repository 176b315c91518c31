"""How much may be filled in: a plan that repeats a large result must not fill the memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cpa.errors import InvalidDocument, TooLarge

_encode = msgspec.json.Encoder().encode


class Room:
    def __init__(self, most: int) -> None:
        """`most` bytes of JSON; texts count by characters, what is smaller does not count."""
        self._most = self._left = most

    def take(self, value: Any) -> Any:
        """The value, if there is room for it; else `TooLarge`."""
        if isinstance(value, str):
            self._left -= len(value)
        elif isinstance(value, Mapping | list | tuple):
            self._left -= _size(value)
        if self._left < 0:
            raise TooLarge(
                f"what is filled in would be larger than {self._most} bytes",
                remedy="Pass large content as a file, and refer to the fields that are needed.",
            )
        return value


def _size(value: Any) -> int:
    try:
        return len(_encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidDocument(
            f"a result cannot be passed on: {error}", remedy="Refer to a text or a number inside it."
        ) from error
