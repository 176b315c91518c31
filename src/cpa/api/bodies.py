"""JSON bodies: read within limits, cleared of what no later part could store, then checked against their
model.

A body may take its time, and a key may be revoked meanwhile: who sends it is identified again once it is there.

Refused before any model sees them: other media types, more than 1 MiB, slow senders, broken UTF-8 and JSON,
NaN and infinities, integers beyond 64 bits, NUL characters, lone surrogates, nesting deeper than 64. The
models are strict: no unknown field, no `true` for a number, no `"5"` for 5.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from cpa.api.caller import identify_again
from cpa.api.problems import RequestTimeout, WrongMediaType, invalid
from cpa.api.services import services_of
from cpa.errors import BadInput, TooLarge, Unavailable

LIMIT: Final = 1024 * 1024
DEEPEST: Final = 64
PATIENCE: Final = 30.0
"""Seconds a whole JSON body may take to arrive."""
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """Base of request models."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


async def read_json(request: Request) -> bytes:
    """The body's bytes, once they are known to be clean JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise WrongMediaType(
            "the body must be JSON",
            field="Content-Type",
            value=media_type,
            remedy="send Content-Type: application/json",
        )
    check_length(request, LIMIT)
    raw = bytearray()
    shutdown = services_of(request).shutdown
    async with shutdown.patience(PATIENCE):
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > LIMIT:
                raise _over(len(raw), LIMIT)
        await identify_again(request)
        return bytes(raw)
    if shutdown.begun:
        raise stopping()
    raise RequestTimeout(
        f"the body did not arrive within {PATIENCE:g} s", field="body", remedy="send it faster"
    )


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """A large body as it comes. What arrived gives the rest more time, by the slowest rate of the settings; only
    what is waited for counts. It does not keep the server from stopping."""
    shutdown, stream = services_of(request).shutdown, request.stream()
    rate = services_of(request).settings.min_upload_rate
    now, left = asyncio.get_running_loop().time, PATIENCE
    while True:
        chunk: bytes | None = None
        began = now()
        async with shutdown.patience(min(left, PATIENCE)):
            chunk = await anext(stream, b"")
        if chunk is None and shutdown.begun:
            raise stopping()
        if chunk is None:
            raise _late(rate) if left < PATIENCE else _silent()
        left += len(chunk) / rate - (now() - began)
        if not chunk:
            await identify_again(request)
            return
        yield chunk


def _silent() -> RequestTimeout:
    return RequestTimeout(
        f"nothing more of the body arrived within {PATIENCE:g} s", field="body", remedy="send it again"
    )


def _late(rate: int) -> RequestTimeout:
    return RequestTimeout(
        f"the body came by less than {rate} bytes a second",
        field="body",
        remedy="send it faster, or have an operator lower CPA_MIN_UPLOAD_RATE",
    )


def stopping() -> Unavailable:
    return Unavailable("the server is stopping", remedy="send it again after the restart")


async def read(request: Request, model: type[M]) -> tuple[M, str]:
    """The body as this model, and the SHA-256 of its meaning (order of names and blanks do not count)."""
    return parsed(await read_json(request), model)


def parsed(raw: bytes, model: type[M]) -> tuple[M, str]:
    """As `read`, from the body's bytes."""
    value = decode(raw)
    try:
        found = model.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error, document=value) from None
    return found, hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def decode(raw: bytes) -> Any:
    """JSON as plain values. Raises `BadInput` for everything the first paragraph names."""
    try:
        value = msgspec.json.decode(raw)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"this is not JSON: {error}",
            field="body",
            remedy="send one JSON value, UTF-8, without NaN or Infinity",
        ) from None
    _clear(value)
    return value


def check_length(request: Request, limit: int) -> int:
    """Refuse by the announced length, before anything is read. The length; 0 when none is announced."""
    announced = request.headers.get("content-length")
    length = int(announced[:20]) if announced is not None and announced.isdecimal() else 0
    if length > limit:
        raise _over(length, limit)
    return length


def _clear(value: Any) -> None:
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    while waiting:
        path, item, depth = waiting.pop()
        if isinstance(item, str):
            if "\0" in item:
                raise BadInput(
                    "text must not contain NUL", field=path or "body", remedy="remove the character U+0000"
                )
        elif isinstance(item, int):
            if not _SMALLEST <= item <= _LARGEST:
                raise BadInput("this number is too large", field=path or "body", remedy="use at most 64 bits")
        elif isinstance(item, (dict, list)):
            if depth == DEEPEST:
                raise _too_deep()
            if isinstance(item, list):
                waiting += [(f"{path}[{index}]", child, depth + 1) for index, child in enumerate(item)]
                continue
            for name, child in item.items():
                if "\0" in name:
                    raise BadInput(
                        "a name must not contain NUL", field=path or "body", remedy="remove U+0000"
                    )
                waiting.append((f"{path}.{name}" if path else name, child, depth + 1))


def _over(size: int, limit: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {limit} bytes",
        field="body",
        value=size,
        remedy="store files with POST /artifacts and pass their reference",
    )


def _too_deep() -> BadInput:
    return BadInput(f"the body nests deeper than {DEEPEST} levels", field="body", remedy="flatten it")
