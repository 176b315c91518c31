"""Who is calling: the dependency that turns `X-API-Key` into a `Caller` with the right a route needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from cpa.api.route import KEY_HEADER
from cpa.api.services import services_of
from cpa.errors import Forbidden
from cpa.ports.keys import Caller, Scope
from cpa.security.auth import FIXED, require

_SCHEME = APIKeyHeader(
    name="X-API-Key",
    auto_error=False,
    scheme_name="ApiKey",
    description="The first key is written to `admin.key` in the data folder at the first start.",
)


def allow(*scopes: Scope) -> Callable[[Request, str | None], Awaitable[Caller]]:
    """A dependency: the caller, who holds one of these scopes. 401 without a valid key, 403 without the
    scope."""

    async def caller(request: Request, key: Annotated[str | None, Security(_SCHEME)]) -> Caller:
        found = await services_of(request).keys.identify(key)
        require(found, *scopes)
        return found

    return caller


async def watcher(request: Request, key: Annotated[str | None, Security(_SCHEME)]) -> Caller:
    """Who may see the figures of the whole server: somebody of the tenant whose server it is. 403 for all others,
    also for admins of theirs."""
    found = await allow(Scope.METRICS)(request, key)
    if found.tenant != FIXED.tenant:
        raise Forbidden(
            "these are the figures of the whole server",
            field="X-API-Key",
            value=f"tenant: {found.tenant}",
            remedy="have an operator of the server look, or use a key of the operator's",
        )
    return found


async def newcomer(request: Request, key: Annotated[str | None, Security(_SCHEME)]) -> Caller | None:
    """Who registers an agent: an admin, an agent with a key of its own, or somebody without a key, who must have
    another proof."""
    if not key:
        return None
    return await allow(Scope.ADMIN, Scope.AGENT)(request, key)


async def identify_again(request: Request) -> None:
    """After what took its time. Raises `Unauthorized` for a key that is dead by now."""
    key = request.headers.get(KEY_HEADER)
    if key:
        await services_of(request).keys.identify(key)


Reader = Annotated[Caller, Depends(allow(Scope.READ))]
Submitter = Annotated[Caller, Depends(allow(Scope.SUBMIT))]
Speaker = Annotated[Caller, Depends(allow(Scope.SUBMIT, Scope.AGENT))]
Fetcher = Annotated[Caller, Depends(allow(Scope.READ, Scope.AGENT))]
Administrator = Annotated[Caller, Depends(allow(Scope.ADMIN))]
Agent = Annotated[Caller, Depends(allow(Scope.AGENT))]
Watcher = Annotated[Caller, Depends(watcher)]
Newcomer = Annotated[Caller | None, Depends(newcomer)]
