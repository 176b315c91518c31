"""Every error leaves as RFC 9457 problem+json: the field, what stood there, the remedy, and who can act.

Only errors raised on purpose tell their story. Anything else is a defect: the caller gets a 500 with the
correlation id, the log gets the traceback under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from cpa.core.documents import path, written
from cpa.errors import (
    BadInput,
    Conflict,
    CPAError,
    Forbidden,
    InternalError,
    InvalidDocument,
    NotFound,
    QuotaExceeded,
    TooLarge,
    Unauthorized,
    Unavailable,
)

log = structlog.stdlib.get_logger("cpa.api")
MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = "2"
"""Seconds a client is asked to wait after a 503."""
_MOST_ERRORS: Final = 20
_OF_THE_PLACE: Final = (Unavailable, QuotaExceeded)
"""What is no defect, and tells its story to the caller and in one line of the log."""


class KeyReused(InvalidDocument):
    """The same Idempotency-Key came with another request."""

    code = "idempotency_key_reused"


class MethodNotAllowed(BadInput):
    code, status = "method_not_allowed", 405


class WrongMediaType(BadInput):
    code, status = "wrong_media_type", 415


class NotOffered(InvalidDocument):
    """Understood, and not (yet) something this server does."""

    code = "not_offered"


class RequestTimeout(BadInput):
    code, status, retryable = "request_timeout", 408, True


class Invalid(InvalidDocument):
    """A document that breaks its schema in one or more places; `errors` lists them, the first is the
    headline. Where one of several forms may stand, what each of them misses is one place."""

    def __init__(
        self, errors: Sequence[Mapping[str, Any]], *, within: str = "", document: Any = None
    ) -> None:
        found: list[dict[str, Any]] = []
        for error in errors[:_MOST_ERRORS]:
            place = _place(error, within, document)
            alike = next((each for each in found if each["field"] == place["field"]), None)
            if alike is None:
                found.append(place)
            else:
                alike["detail"] += f" or {place['detail'].removeprefix('Input should be ')}"
        first = found[0]
        super().__init__(
            first["detail"],
            field=first["field"],
            value=first.get("value"),
            remedy=f"correct {first['field']}; /openapi.json has the schema",
        )
        self.errors = found

    def problem(self) -> dict[str, Any]:
        return super().problem() | {"errors": self.errors}


def invalid(error: ValidationError, *, within: str = "", document: Any = None) -> Invalid:
    """What pydantic found, in our words. `within` is the path of the document inside the request; `document` is
    needed where its model has unions, which pydantic's places tell of."""
    return Invalid(
        [_plain(each) for each in error.errors(include_url=False)], within=within, document=document
    )


def render(error: CPAError, connection: HTTPConnection) -> Response:
    """The answer for an error."""
    body = error.problem()
    if error.status >= 500 and not isinstance(error, _OF_THE_PLACE):
        body |= {"detail": "something went wrong here, not with your request"}
        body["remedy"] = "report it with the correlation id; the server's log has the details under it"
        body.pop("field", None)
        body.pop("value", None)
    body["instance"] = connection.url.path
    body["correlation_id"] = connection.scope.get("cpa.correlation", "")
    return Response(
        msgspec.json.encode(_clean(body)),
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers=_headers(error),
    )


def close_code(error: CPAError) -> int:
    """The WebSocket close code for an error: 4000 and the HTTP status, or a standard one."""
    if isinstance(error, Unavailable):
        return 1013
    return 1011 if error.status >= 500 else 4000 + error.status


def install(app: FastAPI) -> None:
    """Make the app answer all its errors this way."""
    app.add_exception_handler(CPAError, _on_purpose)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, _routing)


async def _on_purpose(request: Request, error: Exception) -> Response:
    assert isinstance(error, CPAError)
    if error.status >= 500:
        defect = None if isinstance(error, _OF_THE_PLACE) else error
        log.error("request_failed", code=error.code, error=str(error), exc_info=defect)
    return render(error, request)


async def _parameters(request: Request, error: Exception) -> Response:
    """Path, query and header parameters; bodies are read by `bodies`."""
    assert isinstance(error, RequestValidationError)
    return render(Invalid(error.errors()), request)


async def _routing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = render(_from_status(error.status_code, str(error.detail), request), request)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _from_status(status: int, detail: str, request: Request) -> CPAError:
    path = request.url.path
    if status == 404:
        return NotFound(
            "there is nothing at this path", field="path", value=path, remedy="see /docs for the paths"
        )
    if status == 405:
        return MethodNotAllowed(
            f"{request.method} is not offered here",
            field="method",
            value=request.method,
            remedy="see the Allow header",
        )
    known: dict[int, type[CPAError]] = {
        401: Unauthorized,
        403: Forbidden,
        409: Conflict,
        413: TooLarge,
        503: Unavailable,
    }
    if status in known:
        return known[status](detail)
    return BadInput(detail) if status < 500 else InternalError(detail)


def _headers(error: CPAError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": 'ApiKey header="X-API-Key"'}
    return {"Retry-After": RETRY_AFTER} if error.retryable else {}


def _plain(error: Any) -> dict[str, Any]:
    """An error of pydantic. Where a field decides which form a document has, it is that field that is wrong."""
    if error["type"] not in ("union_tag_invalid", "union_tag_not_found"):
        return dict(error)
    about = error["ctx"]
    name = about["discriminator"].strip("'")
    found = {"loc": (*error["loc"], name), "type": "missing", "msg": "Field required", "input": None}
    if error["type"] == "union_tag_invalid":
        expected = " or ".join(about["expected_tags"].split(", "))
        found |= {"type": "literal_error", "msg": f"Input should be {expected}", "input": about["tag"]}
    return found


def _place(error: Mapping[str, Any], within: str, document: Any) -> dict[str, Any]:
    steps, missing = error["loc"], error["type"] == "missing"
    if document is not None:
        steps = written(steps, document, missing=missing)
    detail = str(error["msg"]).removeprefix("Value error, ")
    found: dict[str, Any] = {"field": path(within, *steps) or "body", "detail": detail}
    if not missing and not isinstance(error.get("input"), (dict, list)):
        found["value"] = CPAError("", value=error.get("input")).value
    return {name: value for name, value in found.items() if value is not None}


def _clean(value: Any) -> Any:
    """Text from outside may hold lone surrogates, which JSON in UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value
