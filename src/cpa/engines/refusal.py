"""Why a store refused a batch: for something in it, or because it does not write at all now."""

from __future__ import annotations

from cpa.errors import CPAError, InternalError


def of_its_content(error: BaseException) -> bool:
    """Whether the store refused something in the batch, rather than to write at all."""
    return not isinstance(error, CPAError) or isinstance(error, InternalError)
