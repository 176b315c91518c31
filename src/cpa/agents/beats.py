"""Beats of an agent: what they say of it, and what their answers do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpa.agents.client import lost_in
from cpa.agents.conversation import Conversations
from cpa.ports.agents import AgentStatus, Beat, Readiness


def beat_of(conversations: Conversations, instance: str, readiness: Readiness) -> Beat:
    """How the agent stands now; `instance` is that of its process."""
    slots, busy = conversations.slots, conversations.busy
    return Beat(
        status=AgentStatus.BUSY if conversations.draining else AgentStatus.ONLINE,
        load=busy / slots,
        free=0 if conversations.draining else max(slots - busy, 0),
        running=conversations.running,
        readiness=readiness,
        instance=instance,
    )


def answered(
    conversations: Conversations, answer: Mapping[str, Any], sent: float, *, interval: float, lease: float
) -> float:
    """Take the answer to a beat that was `sent` then, on the monotonic clock; seconds until the next one. What it
    does not take away is ours for a lease from when it was sent. `interval` and `lease` are seconds."""
    conversations.lost(lost_in(answer))
    conversations.fence.renewed(sent + lease)
    # After standing still the answer can be older than a lease: then only the next one tells.
    return 0.0 if conversations.fence.closed else interval
