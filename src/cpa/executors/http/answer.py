"""What a web service answered: read within limits, checked against the schema, made a result.

A body is kept in the result when it is text or JSON of at most 16 KiB; everything else becomes an artifact,
streamed. JSON that a schema is to check is read whole (at most 8 MiB), because a schema speaks of the
whole.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from cpa.executors.arguments import Stopped, business
from cpa.executors.http.call import Call
from cpa.ports.artifacts import ArtifactStore
from cpa.ports.executor import ExecutionResult

MAX_INLINE = 16 * 1024
"""Bytes of a body that appear in the result."""
MAX_CHECKED = 8 * 1024 * 1024
"""Bytes of a JSON body that a schema can be held against."""
MAX_WAIT = 3600.0
"""Longest time a service is waited for, in seconds."""

_LOOKED_AT = 4096
_TEXTUAL = re.compile(r"text/.*|application/(.*\+)?(xml|javascript|x-www-form-urlencoded|yaml)")
_JSON = re.compile(r"application/(.*\+)?json|text/json")
_SHOWN_HEADERS = 8 * 1024
"""Characters of names and values of headers in a result."""


class AnswerReader:
    """Turns successful responses into results."""

    def __init__(self, artifacts: ArtifactStore, max_bytes: int) -> None:
        self._artifacts = artifacts
        self._max_bytes = max_bytes

    async def read(self, tenant: str, call: Call, response: httpx2.Response) -> ExecutionResult:
        """The result of this response. Raises `Stopped` for an answer that is too large or breaks the
        schema."""
        kind = media_type(response.headers)
        result: dict[str, Any] = {
            "status": response.status_code,
            "headers": _shown(response.headers),
        }
        body = self._limited(response)
        if call.schema is not None:
            content = await _whole(body, MAX_CHECKED)
            value = _parsed(content)
            await asyncio.to_thread(_check, value, call.schema)
            if call.save is None and len(content) <= MAX_INLINE:
                return _inline(result | {"json": value})
            return await self._kept(tenant, call, result, kind, content)
        if call.save is not None or not (_JSON.fullmatch(kind) or _TEXTUAL.fullmatch(kind) or not kind):
            return await self._kept(tenant, call, result, kind, body)
        head, rest = await _head(body, MAX_INLINE)
        if rest is not None:
            return await self._kept(tenant, call, result, kind, _joined(head, rest))
        if _JSON.fullmatch(kind) and head:
            return _inline(result | {"json": _parsed(head)})
        return _inline(result | {"text": _decoded(response, head)})

    async def _kept(
        self,
        tenant: str,
        call: Call,
        result: dict[str, Any],
        kind: str,
        content: bytes | AsyncIterator[bytes],
    ) -> ExecutionResult:
        file = await self._artifacts.put(
            tenant, content, name=call.save or "response", media_type=kind or "application/octet-stream"
        )
        return ExecutionResult(
            success=True, result=result | {"file": file.as_reference()}, artifacts=(file.digest,)
        )

    async def _limited(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        declared = response.headers.get("content-length", "")
        if (
            declared.isascii()
            and declared.isdecimal()
            and int(declared) > self._max_bytes
            and response.request.method != "HEAD"
        ):
            raise _too_large(self._max_bytes)
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > self._max_bytes:
                raise _too_large(self._max_bytes)
            yield chunk


def _shown(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, as many as a result has room for."""
    shown: dict[str, str] = {}
    room = _SHOWN_HEADERS
    for name, value in headers.items():
        room -= len(name) + len(value)
        if room >= 0:
            shown[name] = value
    return shown


def media_type(headers: Mapping[str, str]) -> str:
    """The media type without parameters, lower case; empty if none is given."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the service asked to wait, at most `MAX_WAIT`; None if it said nothing that can be understood."""
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdecimal():
        return min(float(said[:9]), MAX_WAIT)
    try:
        until = parsedate_to_datetime(said)
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        return min(max(0.0, (until - now).total_seconds()), MAX_WAIT)
    except (TypeError, ValueError, OverflowError):
        return None


async def excerpt(response: httpx2.Response) -> str:
    """The beginning of a body as one line, for the end of an error message; empty if it is no text."""
    kind = media_type(response.headers)
    if kind and not (_JSON.fullmatch(kind) or _TEXTUAL.fullmatch(kind)):
        return ""
    content = b""
    try:
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > _LOOKED_AT:
                break
    except httpx2.HTTPError:
        # The status has arrived and says enough; the body is only for people.
        content = b""
    said = re.sub(r"<[^>]*>", " ", _decoded(response, content[:_LOOKED_AT]))
    return re.sub(r"[\s\x00-\x1f]+", " ", said).strip()


def _inline(result: dict[str, Any]) -> ExecutionResult:
    return ExecutionResult(success=True, result=result)


def _too_large(limit: int) -> Stopped:
    return business(
        "response_too_large",
        f"the answer is larger than {limit} bytes",
        remedy="ask the service for less, or raise the limit",
        limit=limit,
    )


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise business(
            "invalid_json",
            f"the answer is not JSON: {error}",
            remedy="check the address: an error page or a login form often stands in for the service",
        ) from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _check(value: Any, schema: Mapping[str, Any] | bool) -> None:
    from jsonschema import SchemaError, ValidationError
    from jsonschema.exceptions import best_match
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)  # type: ignore[arg-type]  # true and false are schemas
        # An empty registry: a `$ref` to elsewhere fails instead of being fetched behind the guard's back.
        fault: ValidationError | None = best_match(kind(schema, registry=Registry()).iter_errors(value))
    except SchemaError as error:
        raise business(
            "bad_argument",
            f"the argument 'schema' is no JSON Schema: {error.message}",
            remedy="correct it",
        ) from error
    except Unresolvable as error:
        raise business(
            "bad_argument",
            f"the argument 'schema' refers to what is not in it: {error}",
            remedy="put the referred definitions under $defs",
        ) from error
    if fault is not None:
        raise business(
            "schema_mismatch",
            f"the answer breaks the schema at {fault.json_path}: {fault.message}",
            remedy="compare the service's answer with the schema of the task",
            path=fault.json_path,
        )


async def _whole(body: AsyncIterator[bytes], limit: int) -> bytes:
    head, rest = await _head(body, limit)
    if rest is not None:
        raise _too_large(limit)
    return head


async def _head(body: AsyncIterator[bytes], limit: int) -> tuple[bytes, AsyncIterator[bytes] | None]:
    """The body if it has at most `limit` bytes; else its beginning, and the rest to go on with."""
    content = bytearray()
    async for chunk in body:
        content += chunk
        if len(content) > limit:
            return bytes(content), body
    return bytes(content), None


async def _joined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for chunk in rest:
        yield chunk


def _decoded(response: httpx2.Response, content: bytes) -> str:
    try:
        return content.decode(response.charset_encoding or "utf-8", "replace")
    except LookupError:
        return content.decode("utf-8", "replace")
