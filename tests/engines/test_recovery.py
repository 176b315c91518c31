"""What is open is performed again: no kind of command is forgotten."""

from __future__ import annotations

from typing import get_args

from cpa.core.commands import AnyCommand, AskPerson, StartTimer
from cpa.engines.local.recovery import PERFORMED


def test_every_command_is_performed_again_or_waits_by_itself() -> None:
    assert {*PERFORMED, AskPerson, StartTimer} == set(get_args(AnyCommand))
