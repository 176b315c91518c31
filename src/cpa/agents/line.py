"""The way from an agent to its scheduler, whatever it is: a channel or posts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import structlog

from cpa.core.lam_protocol import BaseMessage

log = structlog.get_logger(__name__)


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


def heed(message: BaseMessage, told: Mapping[str, Any]) -> None:
    """Say in the log what of a message that was taken is not kept."""
    if left := told.get("left_out"):
        about = message.correlation
        log.warning("files_left_out", job=about.job_id, task=about.task_id, epoch=about.epoch, files=left)
