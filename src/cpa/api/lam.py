"""`POST /lam/message`: agents and channels speak to the scheduler."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, Field

from cpa.api.bodies import decode, read_json
from cpa.api.caller import Speaker
from cpa.api.render import answer, problems
from cpa.api.route import DirectRouter
from cpa.api.services import ApiServices, Services
from cpa.api.signed import sent
from cpa.api.uploads import LEAST
from cpa.core.lam_protocol import parse
from cpa.errors import InvalidDocument
from cpa.ports.agents import Acknowledgement
from cpa.ports.keys import Caller
from cpa.security.auth import require_tenant

router = DirectRouter(prefix="/lam", tags=["lam"])


class Acknowledged(BaseModel):
    message_id: str
    new: bool = Field(description="False when this message was here before; then nothing happened.")
    effect: str = Field(description="What it did, or why nothing changed.", examples=["task_succeeded"])
    job: str = Field(description="The job it made or concerned; may be empty.")
    left_out: list[str] = Field(
        description="Digests in `artifacts` that are not kept with the task, because nobody stored them."
    )


_EXAMPLE = {
    "id": "3c1f3c1a-7d1f-4f62-9f53-0d8f9a3f6c11",
    "ts": "2026-11-24T08:30:00Z",
    "type": "request",
    "sender": "agent://user/anna",
    "to": ["agent://scheduler/cpa"],
    "intent": "",
    "payload": {"text": "Schick die letzte Rechnung von ACME an billing@kunde.example"},
}


@router.post(
    "/message",
    summary="Hand in a LAM message",
    response_model=Acknowledged,
    responses=problems(400, 404, 408, 409, 413, 415, 422, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object", "required": ["id", "ts", "type", "sender", "to"]},
                    "example": _EXAMPLE,
                }
            },
        }
    },
)
async def take_message(request: Request, services: Services, caller: Speaker) -> Response:
    """Any type of the protocol that this server takes. The sender is bound to the key; the answer says
    whether the message was new and what it did. The same message again changes nothing. An agent that registered a
    public key signs each (docs/lam.md); the same signature again is refused."""
    raw = await read_json(request)
    caller = services.signatures.check(caller, sent(request, raw))
    document = decode(raw)
    if not isinstance(document, dict):
        raise InvalidDocument("a message is a JSON object", field="body", remedy="send one JSON object")
    return answer(await take(services, document, len(raw), caller))


async def take(services: ApiServices, document: dict[str, Any], size: int, caller: Caller) -> Acknowledgement:
    """A message of so many bytes, however it came: within what its sender may say in a day, of which it counts once
    it was handled."""
    message, size = parse(document), max(size, LEAST)
    require_tenant(caller, message.context.tenant or None, "context.tenant")
    services.said.check(caller, size)
    done = await services.messages.handle(message, caller)
    services.said.count(caller, size)
    return done
