"""What operators see of a job in Temporal's own lists: its intent, tenant and status.

These lie at the server in clear, so they hold nothing personal: an intent that is no plain name is not shown. They
are set with the start, and once more when the job ends. A server that has no room for them, or lets us make none,
runs the jobs all the same; the log says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Final

import structlog
from msgspec.structs import replace
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import Priority, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from cpa.engines.temporal.values import STATUS, JobInput

log = structlog.get_logger(__name__)
INTENT = SearchAttributeKey.for_keyword("CpaIntent")
TENANT = SearchAttributeKey.for_keyword("CpaTenant")
NAMES: Final = (INTENT.name, TENANT.name, STATUS.name)
PAUSE, TRIES = 0.5, 120
"""Seconds between looks at whether the server's parts have learnt of new attributes, and how many."""
_AWAY: Final = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FAIR_BYTES = 64
"""Most bytes of a fairness key."""


async def made(client: Client) -> bool:
    """Whether the server's lists have our attributes, made now where they were missing. Waits for a server that is
    away."""
    while True:
        try:
            await _make(client)
            return await _known(client)
        except RPCError as error:
            if error.status not in _AWAY:
                missing = " ".join(f"--name {name} --type Keyword" for name in NAMES)
                log.warning(
                    "jobs_not_searchable",
                    reason=error.message,
                    remedy=f"temporal operator search-attribute create --namespace {client.namespace} {missing}",
                )
                return False
        await asyncio.sleep(PAUSE)


async def _make(client: Client) -> None:
    found = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = [name for name in NAMES if name not in found.custom_attributes]
    if missing:
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace, search_attributes=dict.fromkeys(missing, keyword)
            )
        )


async def _known(client: Client) -> bool:
    """Wait until a query may name them: what starts jobs knows them then too."""
    query = " AND ".join(f"{name} = 'x'" for name in NAMES)
    for _ in range(TRIES):
        try:
            await client.count_workflows(query)
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            await asyncio.sleep(PAUSE)
        else:
            return True
    return False


class Lists:
    """`run` once, beside the starts: until it is known whether the server's lists have our attributes, jobs start
    without."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.searchable: bool | None = None
        """None until that is known."""

    async def run(self) -> None:
        self.searchable = await made(self._client)

    def marked(self, begin: JobInput) -> JobInput:
        """To be shown in the lists, where they can."""
        return replace(begin, shown="pending" if begin.start else "running") if self.searchable else begin


def shown(begin: JobInput) -> TypedSearchAttributes:
    """What a job is found by when it starts."""
    if not begin.shown:
        return TypedSearchAttributes.empty
    pairs = [
        SearchAttributePair(TENANT, begin.head.tenant),
        SearchAttributePair(STATUS, begin.shown),
    ]
    if _PLAIN.fullmatch(begin.spec.intent):
        pairs.append(SearchAttributePair(INTENT, begin.spec.intent))
    return TypedSearchAttributes(pairs)


def priority_of(tenant: str, priority: int) -> Priority:
    """The server's five steps, where 1 goes first, for our numbers, where more goes first. Tenants take turns."""
    step = 1 if priority >= 100 else 2 if priority > 0 else 3 if not priority else 4 if priority > -100 else 5
    name = tenant.encode()
    fair = tenant if len(name) <= _FAIR_BYTES else hashlib.sha256(name).hexdigest()
    return Priority(priority_key=step, fairness_key=fair)
