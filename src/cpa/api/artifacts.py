"""Files in and out, streamed, named by their content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from cpa.api.bodies import check_length, chunks
from cpa.api.caller import Fetcher, Speaker
from cpa.api.problems import WrongMediaType
from cpa.api.render import answer, problems
from cpa.api.route import DirectRouter
from cpa.api.services import Services
from cpa.errors import BadInput
from cpa.ports.artifacts import Artifact

router = DirectRouter(prefix="/artifacts", tags=["artifacts"])


class ArtifactReference(BaseModel):
    """What to put into an argument, or find in a result, instead of the file."""

    artifact: str = Field(examples=["sha256:" + "ab" * 32])
    size: int
    name: str
    media_type: str


_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file's bytes, whatever they are; its media type is the Content-Type.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "",
    status_code=201,
    summary="Store a file",
    response_model=ArtifactReference,
    responses=problems(400, 408, 413, 415, 507),
    openapi_extra=_UPLOAD,
)
async def store(
    request: Request,
    services: Services,
    caller: Speaker,
    name: Annotated[
        str, Query(max_length=255, description="Its name for people.", examples=["rechnung.pdf"])
    ] = "file",
) -> Response:
    """Streams to disk; the same bytes twice are stored once. Refused above the server's limit for one file, for all
    of a tenant, and for what an agent sends in a day; before reading when the length is announced."""
    media_type = request.headers.get("content-type", "application/octet-stream")
    if media_type.startswith("multipart/"):
        raise WrongMediaType(
            "forms are not taken here",
            field="Content-Type",
            value=media_type,
            remedy="send the bytes themselves: curl --data-binary @FILE, with the file's own Content-Type",
        )
    announced = check_length(request, services.settings.max_artifact_bytes)
    services.uploads.check(caller, announced)
    content = services.uploads.counted(caller, chunks(request))
    stored = await services.artifacts.put(
        caller.tenant, content, name=_clean_name(name), media_type=media_type
    )
    response = answer(stored.as_reference(), 201)
    response.headers["Location"] = f"/artifacts/{stored.digest}"
    return response


@router.get(
    "/{digest}",
    summary="Fetch a file",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The caller has it already (If-None-Match)."},
        **problems(400, 404),
    },
)
async def fetch(digest: str, request: Request, services: Services, caller: Fetcher) -> Response:
    """The bytes, checked against the digest on their way. Always as a download, never shown in place."""
    if "\0" in digest:
        raise BadInput("this is no digest", field="digest", remedy="sha256: and 64 hexadecimal digits")
    found = await services.artifacts.stat(caller.tenant, digest)
    headers = _headers(found)
    if f'"{found.digest}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": headers["ETag"]})
    headers["Content-Length"] = str(found.size)
    content: AsyncIterator[bytes] = services.artifacts.open(caller.tenant, found.digest)
    return StreamingResponse(content, media_type=_media_type(found), headers=headers)


def _headers(found: Artifact) -> dict[str, str]:
    """What a stranger's file may do in a browser: nothing."""
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, max-age=31536000, immutable",
        "ETag": f'"{found.digest}"',
    }


def _media_type(found: Artifact) -> str:
    text = found.media_type
    harmless = text.isascii() and text.isprintable() and "/" in text
    return text if harmless else "application/octet-stream"


def _clean_name(name: str) -> str:
    """Lone surrogates cannot be stored as UTF-8; the store makes the rest harmless."""
    return name.encode("utf-8", "replace").decode()
