"""Answers as bytes: encoded once, by us, and not validated again on the way out."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel, Field
from starlette.responses import Response

from cpa.api.problems import MEDIA_TYPE

_JSON = "application/json"
_WHY = {
    400: "The request is wrong; `field`, `value` and `remedy` say how.",
    401: "No key, or one that is not accepted.",
    403: "The key lacks a right, or names a tenant that is not its own.",
    404: "No such thing, or not of this tenant.",
    405: "This method is not offered here.",
    408: "The body did not arrive in time.",
    409: "The state does not allow it.",
    413: "Over a stated size limit.",
    415: "The body has another media type than the route takes.",
    422: "Well-formed, but not valid; `errors` lists every place.",
    500: "A defect; quote the correlation id.",
    503: "Stopping, or the store is away or full just now; retry later.",
    507: "All the room that is allowed is taken.",
}


class Problem(BaseModel):
    """RFC 9457, with what a program and a person need to go on."""

    type: str = Field(examples=["urn:cpa:error:not_found"])
    title: str = Field(examples=["not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no job with this id"])
    code: str = Field(description="Stable, machine-readable.", examples=["not_found"])
    actor: str = Field(
        description="Who can mend it: caller, requester, operator or developer.", examples=["caller"]
    )
    retryable: bool = Field(description="Whether the same call may succeed later.", examples=[False])
    instance: str = Field(description="Path of the request.", examples=["/jobs/0199…"])
    correlation_id: str = Field(description="As in the answer's header and every log line.")
    field: str | None = Field(default=None, examples=["task_graph.tasks[2].depends_on"])
    value: str | None = Field(default=None, description="What stood there, shortened.")
    remedy: str | None = Field(default=None, examples=["list the jobs with GET /jobs"])


def problems(*status: int) -> dict[int | str, dict[str, Any]]:
    """The problem answers of a route, for its documentation; 401, 403, 405, 500 and 503 always belong to them."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        code: {"description": _WHY[code], "content": {MEDIA_TYPE: {"schema": schema}}}
        for code in sorted({401, 403, 405, 500, 503, *status})
    }


def answer(value: object, status: int = 200) -> Response:
    """Plain values as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type=_JSON)


def view(model: BaseModel, status: int = 200) -> Response:
    """A view as JSON."""
    return Response(model.__pydantic_serializer__.to_json(model), status_code=status, media_type=_JSON)


def body_schema(model: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """`openapi_extra` for a route that reads its body itself; `create_app` adds the model to the
    components."""
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "examples": named}
    return {"requestBody": {"required": True, "content": {_JSON: content}}}
