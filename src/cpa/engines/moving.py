"""Jobs in flight move from one engine to the other.

Offline: whoever moves has the store alone, and no engine runs.
"""

from __future__ import annotations

from cpa.errors import BadInput
from cpa.ports.moving import Holder, HolderStore


async def check_holders(engine: str, store: HolderStore) -> None:
    """Raise unless all open jobs are this engine's, so that it may begin."""
    found = await store.holders()
    halfway = {holder: count for holder, count in found.items() if holder.target}
    if halfway:
        holder, count = max(halfway.items(), key=lambda item: item[1])
        raise BadInput(
            f"{_jobs(count)} on the way from engine {holder.engine} to {holder.target}: a move was interrupted",
            field="engine",
            value=engine,
            remedy=f"end it with `cpa migrate engine --to {holder.target}`",
        )
    for holder, count in found.items():
        if holder != Holder(engine):
            raise BadInput(
                f"{_jobs(count)} with engine {holder.engine}, and {engine} is to run",
                field="engine",
                value=engine,
                remedy=f"hand them over with `cpa migrate engine --to {engine}`, or set CPA_ENGINE={holder.engine}",
            )


def _jobs(count: int) -> str:
    return "1 open job is" if count == 1 else f"{count} open jobs are"
