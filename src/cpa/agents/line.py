"""The way from an agent to its scheduler, whatever it is: a channel or posts."""

from __future__ import annotations

from typing import Protocol

from cpa.core.lam_protocol import BaseMessage


class Line(Protocol):
    """The way to the scheduler."""

    def say(self, message: BaseMessage, *, lasting: bool = True) -> None:
        """Never blocks. What is lasting is said until `Conversations.acknowledged` was called for it; the rest
        once, if somebody listens."""
        ...


class Nobody:
    """No way yet."""

    def say(self, message: BaseMessage, *, lasting: bool = True) -> None:
        raise RuntimeError("there is no line to the scheduler yet")
