"""The interpreter of a server."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from cpa.bootstrap import SWITCH_INTERVAL, tune


@pytest.mark.usefixtures("as_before")
def test_the_collector_works_again_and_leaves_alone_what_was_there() -> None:
    gc.disable()

    tune()

    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL)


@pytest.fixture
def as_before() -> Iterator[None]:
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*threshold)
    sys.setswitchinterval(interval)
