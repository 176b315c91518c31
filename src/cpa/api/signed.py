"""Signed requests at the door: checked once the body is known; the nonce of what steps no job is stored here."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request

from cpa.api.services import ApiServices
from cpa.ports.keys import Caller
from cpa.ports.signatures import Sent


def sent(request: Request, body: bytes) -> Sent:
    """The request as it came over the wire."""
    scope = request.scope
    path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
    return Sent(
        method=scope["method"],
        path=path.decode("latin-1"),
        query=f"?{query.decode('latin-1')}",
        headers=scope["headers"],
        body=body,
    )


async def signed_once(services: ApiServices, request: Request, caller: Caller, body: bytes = b"") -> Caller:
    """The caller, once its signature is good (where it must sign) and stored as used: for requests that step no
    job. Those that do take `services.signatures.check`, and the nonce along. Raises `Unauthorized`, `Replayed`."""
    return await spent(services, services.signatures.check(caller, sent(request, body)))


async def spent(services: ApiServices, caller: Caller) -> Caller:
    """The caller without its nonce, which is stored as used."""
    if caller.nonce is None:
        return caller
    await services.engine.remember(caller.tenant, nonce=caller.nonce)
    return replace(caller, nonce=None)
