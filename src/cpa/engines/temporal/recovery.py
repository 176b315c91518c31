"""After a start: what is open in the store and was given to an earlier life of a worker is gone on with.

Publications that were under way come again by themselves. What was published and waits for an answer does not: an
attempt with a part of a process that has ended is lost, one with an agent of its own is asked for again.
"""

from __future__ import annotations

import asyncio

import structlog

from cpa.engines.temporal.copies import Read
from cpa.engines.temporal.publisher import Publisher
from cpa.errors import CPAError
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.steps import StepStore

log = structlog.get_logger(__name__)
_ATTEMPTS = ("request_task", "cancel_attempt")
_REST = ("dispatch_task", "verify_task")
_PAGE = 200
_PAUSE = 2.0


async def run(read: Read, store: StepStore, publisher: Publisher, orchestrator: Orchestrator) -> None:
    """Go through all jobs that have something open. Attempts first: only then it is known which slots are free."""
    await _walk(_ATTEMPTS, read, store, publisher)
    orchestrator.recovered()
    await _walk(_REST, read, store, publisher)


async def _walk(kinds: tuple[str, ...], read: Read, store: StepStore, publisher: Publisher) -> None:
    after = ("", "")
    while True:
        try:
            page = await read(store.open_jobs, kinds, after, _PAGE)
        except CPAError as error:
            log.error("store_unreadable", error=str(error))
            await asyncio.sleep(_PAUSE)
            continue
        if not page:
            return
        for key in page:
            try:
                await publisher.revive(tuple(key))
            except CPAError as error:
                publisher.troubled[tuple(key)] = error
                log.error("job_set_aside", job=key[1], error=str(error))
        after = page[-1]
