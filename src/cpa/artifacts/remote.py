"""Artifacts of a scheduler, over its API: the store of agents in processes of their own.

An agent's key belongs to one tenant, and so does its store: of another tenant there is nothing here. The bytes are
checked against their digest on this side too, both ways: what is named in a signed word must be what was sent.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import Message
from typing import Any, Final
from urllib.parse import unquote

import httpx2

from cpa.artifacts.names import check_digest, check_tenant, safe_media_type, safe_name
from cpa.errors import CPAError, Forbidden, InternalError, NotFound, Unavailable
from cpa.ports.artifacts import Artifact, whole

CHUNK: Final = 1024 * 1024
TIMEOUT: Final = 60.0
"""Seconds without a byte."""
_OCTETS: Final = "application/octet-stream"


class RemoteArtifacts:
    """`ports.artifacts.ArtifactStore` at a scheduler. A scheduler that cannot be reached is `Unavailable`."""

    def __init__(self, url: str, key: Callable[[], str], *, tenant: str = "default") -> None:
        """`key` is asked at each call: an agent learns its own when it registers."""
        self._url = url.rstrip("/")
        self._key = key
        self._tenant = tenant
        trusted = ssl.create_default_context()
        self._http = httpx2.AsyncClient(base_url=self._url, timeout=TIMEOUT, trust_env=False, verify=trusted)

    async def put(
        self,
        tenant: str,
        content: bytes | AsyncIterator[bytes],
        *,
        name: str = "file",
        media_type: str = _OCTETS,
    ) -> Artifact:
        check_tenant(tenant)
        if tenant != self._tenant:
            raise Forbidden(
                "this agent's files are another tenant's",
                field="tenant",
                value=tenant,
                remedy=f"store it for {self._tenant}, or with an agent of that tenant",
            )
        kind, called = safe_media_type(media_type), safe_name(name)
        # Forms are taken for something else there; the bytes are the same.
        headers = self._headers() | {"Content-Type": _OCTETS if kind.startswith("multipart/") else kind}
        sent = hashlib.sha256()
        try:
            response = await self._http.post(
                "/artifacts", content=_passed(content, sent.update), params={"name": called}, headers=headers
            )
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise _problem(response.status_code, response.content)
        stored = response.json()
        if stored["artifact"] != f"sha256:{sent.hexdigest()}":
            raise _broken(stored["artifact"])
        return Artifact(digest=stored["artifact"], size=stored["size"], name=called, media_type=kind)

    async def stat(self, tenant: str, digest: str) -> Artifact:
        async with self._fetched(tenant, digest) as response:
            return _described(response, digest)

    async def open(self, tenant: str, digest: str) -> AsyncIterator[bytes]:
        """The last chunk is held back until the digest is checked: rotten bytes never look complete."""
        found, held = hashlib.sha256(), b""
        async with self._fetched(tenant, digest) as response:
            try:
                async for chunk in response.aiter_bytes(CHUNK):
                    if held:
                        yield held
                    found.update(chunk)
                    held = chunk
            except httpx2.HTTPError as error:
                # The scheduler cuts the connection when it notices rot, as the network does for its own reasons.
                raise _broken(digest) from error
        if f"sha256:{found.hexdigest()}" != digest:
            raise _broken(digest)
        if held:
            yield held

    async def read(self, tenant: str, digest: str, *, limit: int = 64 * 1024 * 1024) -> bytes:
        return await whole(self, tenant, digest, limit=limit)

    async def close(self) -> None:
        await self._http.aclose()

    # -- inside ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _fetched(self, tenant: str, digest: str) -> AsyncIterator[httpx2.Response]:
        """The answer of the scheduler, its body not read yet."""
        check_tenant(tenant)
        check_digest(digest)
        if tenant != self._tenant:
            raise NotFound("There is no such artifact.", field="artifact", value=digest)
        request = self._http.build_request("GET", f"/artifacts/{digest}", headers=self._headers())
        try:
            response = await self._http.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        try:
            if not response.is_success:
                raise _problem(response.status_code, await response.aread())
            yield response
        finally:
            await response.aclose()

    def _headers(self) -> dict[str, str]:
        return {"X-API-Key": self._key(), "Accept-Encoding": "identity"}

    def _unreachable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the scheduler at {self._url} cannot be reached",
            field="artifacts",
            value=str(error) or type(error).__name__,
            remedy="it is tried again; check that it runs",
        )


def _passed(
    content: bytes | AsyncIterator[bytes], seen: Callable[[bytes], None]
) -> bytes | AsyncIterator[bytes]:
    """The same, and each piece of it is seen on its way."""
    if isinstance(content, bytes):
        seen(content)
        return content

    async def passing() -> AsyncIterator[bytes]:
        async for chunk in content:
            seen(chunk)
            yield chunk

    return passing()


def _described(response: httpx2.Response, digest: str) -> Artifact:
    header = Message()
    header["Content-Disposition"] = response.headers.get("content-disposition", "")
    named = header.get_param("filename", header="content-disposition")
    # RFC 2231 gives charset, language and what is still percent-encoded.
    name = unquote(named[2]) if isinstance(named, tuple) else str(named or "file")
    return Artifact(
        digest=digest,
        size=int(response.headers.get("content-length", 0)),
        name=safe_name(name),
        media_type=safe_media_type(response.headers.get("content-type", _OCTETS)),
    )


def _problem(status: int, content: bytes) -> CPAError:
    body: Any
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    return CPAError.of_problem(status, body)


def _broken(digest: str) -> InternalError:
    return InternalError(
        "An artifact did not arrive as it is named.",
        field="artifact",
        value=digest,
        remedy="Try again; if it lasts, the scheduler's copy is damaged: put the original again.",
    )
