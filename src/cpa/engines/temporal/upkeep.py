"""What has to be seen to from time to time beside the jobs: an API key that was renewed, and large values that
nobody needs any more.

A large value is needed as long as the server has anything of its job: the job may run for months, and after its end
the history stays until the namespace's retention is over. So what is young stays, and of the rest what belongs to a
job of which the server knows nothing any more is removed. That goes on after the jobs have moved to the local
engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from cpa.engines.temporal.connection import ONE_CALL
from cpa.errors import CPAError
from cpa.ports.claims import ClaimStore

log = structlog.get_logger(__name__)
RENEW = 60.0
"""Seconds between looks at the secret of the API key."""
CLEAN = 3600.0
"""Seconds between looks for values that are no longer needed."""
YOUNG = 24 * 3600.0
"""Seconds for which a value stays whatever the server says: its job may be about to start."""

_SWEEP = (
    "let the Temporal server that had these jobs be reached until its retention is over; if it is gone for good, "
    "remove the folder `claims` of the data folder"
)


async def renewing(client: Client, api_key: Callable[[], str], pause: float = RENEW) -> None:
    """Until cancelled: what the secret holds now is shown to the server."""
    while True:
        await asyncio.sleep(pause)
        try:
            found = await asyncio.to_thread(api_key)
        except CPAError as error:
            log.error("api_key_unreadable", error=str(error))
            continue
        if found != client.api_key:
            client.api_key = found
            log.info("api_key_renewed")


async def cleaning(client: Client, claims: ClaimStore, pause: float = CLEAN) -> None:
    """Until cancelled: `clean` now and then."""
    while True:
        try:
            await clean(client, claims)
        except (CPAError, RPCError, OSError) as error:
            log.warning("values_not_cleaned", error=str(error))
        await asyncio.sleep(pause)


async def sweeping(
    connect: Callable[[], Awaitable[Client]], claims: ClaimStore, pause: float = CLEAN, age: float = YOUNG
) -> None:
    """`clean` now and then, as long as there is anything, where no job is on Temporal any more: histories of those
    that moved away, or ended there, may still need what they left. `connect` is called anew until it succeeds."""
    client = None
    while True:
        try:
            if not await claims.jobs(0):
                log.info("values_swept")
                return
            client = client or await connect()
            await clean(client, claims, age)
        except (CPAError, RPCError, OSError) as error:
            log.warning("values_left_behind", error=str(error), remedy=_SWEEP)
        await asyncio.sleep(pause)


async def clean(client: Client, claims: ClaimStore, age: float = YOUNG) -> int:
    """Remove the values of jobs that the server no longer knows; how many jobs these were."""
    gone = 0
    for job in await claims.jobs(age):
        try:
            await client.get_workflow_handle(job).describe(rpc_timeout=ONE_CALL)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND or "namespace" in error.message.lower():
                raise
            # The answer was of a moment ago: a job that is about to start has put something there since.
            gone += await claims.forget(job, age)
    if gone:
        log.info("values_cleaned", jobs=gone)
    return gone
