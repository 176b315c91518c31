"""`http.request`: one call of a web service, to a checked address, with a checked answer.

What a fault means depends on how far the request had come and on what a second one would do:

    before the first byte left      TECHNICAL: nothing happened
    after, effect idempotent        TECHNICAL: a second request is right either way
    after, any other effect         UNKNOWN_OUTCOME: nobody knows whether it was carried out

and so does an answer: 425 and 429 say that nothing was done (TECHNICAL, `Retry-After` is passed on); 408 and the
5xx may come after the effect (from a proxy that gave up waiting, from a service that broke on its way), so they are
TECHNICAL only for idempotent requests; every other 4xx, 501, 505 and 511, and a redirect that is not followed, is
BUSINESS. A redirect is followed for GET and HEAD within the same origin, at most five times, each through the guard
again.

The connection goes to the addresses that the guard checked, never to a second resolution of the name.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

import cpa
from cpa.core.classes import EffectClass, FailureClass
from cpa.errors import NameNotResolved, Unavailable
from cpa.executors.arguments import (
    Stopped,
    attempt,
    business,
    refuse_tainted,
    technical,
)
from cpa.executors.http.answer import AnswerReader, excerpt, retry_after
from cpa.executors.http.call import Call, read_call
from cpa.executors.redaction import redact_result
from cpa.ports.addresses import REFUSED, OutboundAddresses, Target, not_resolved
from cpa.ports.artifacts import ArtifactStore
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.secrets import SecretsManager

MAX_RESPONSE = 64 * 1024 * 1024
"""Bytes of a response body; more is refused while it streams."""
MAX_REDIRECTS = 5

_CONNECT_SECONDS = 10.0
_SPARE = 0.95
"""Part of the attempt's time that the request may take, so that it ends here, where the phase is known."""
_NOT_DONE = frozenset({425, 429})
_MAYBE_DONE = frozenset({408, *range(500, 600)}) - {501, 505, 511}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HttpExecutor(BaseExecutor):
    """Calls web services. Keeps no cookie, no connection and no proxy setting between calls.

    `tls` says which certificates are trusted; None takes the system's.
    """

    actions = ("http.request",)

    def __init__(
        self,
        guard: OutboundAddresses,
        artifacts: ArtifactStore,
        secrets: SecretsManager,
        *,
        max_response: int = MAX_RESPONSE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._secrets = secrets
        self._answers = AnswerReader(artifacts, max_response)
        self._tls = tls

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        used = _Used(self._secrets)
        return redact_result(await attempt(partial(self._perform, used), request), used.values)

    async def verify(self, request: ActionRequest) -> Verification:
        if request.effect is EffectClass.IDEMPOTENT:
            return Verification(
                verdict=Verdict.ABSENT, evidence="The request is idempotent; it can simply be repeated."
            )
        return Verification(
            verdict=Verdict.UNKNOWN,
            evidence="A web service cannot be asked whether it carried out a request.",
        )

    async def _perform(self, secrets: SecretsManager, request: ActionRequest) -> ExecutionResult:
        refuse_tainted(request, ("method", "url", "headers", "schema", "save"))
        call = read_call(request, secrets)
        progress = _Progress()
        try:
            async with asyncio.timeout(request.timeout * _SPARE):
                return await self._follow(request, call, progress)
        except TimeoutError as error:
            if progress.naming:
                raise _nameless(not_resolved(progress.naming)) from error
            raise _broken(
                request, progress, "http_timeout", f"no answer within {request.timeout:g} s"
            ) from error
        except httpx2.TransportError as error:
            said = str(error) or type(error).__name__
            raise _broken(request, progress, "http_broken", f"the connection broke: {said}") from error
        finally:
            await progress.release()

    async def _follow(self, request: ActionRequest, call: Call, progress: _Progress) -> ExecutionResult:
        url = call.url
        for _ in range(MAX_REDIRECTS + 1):
            target = await self._resolve(url, progress)
            async with self._send(call, url, target, progress) as response:
                if response.status_code not in _REDIRECTS:
                    return await self._finish(request, call, response)
                url = _redirected(call, url, response)
        raise business(
            "too_many_redirects",
            f"{target.host} redirected more than {MAX_REDIRECTS} times",
            remedy="use the address the service ends up at",
        )

    async def _resolve(self, url: str, progress: _Progress) -> Target:
        progress.naming = _origin(url)[1] or ""
        try:
            target = await self._guard.resolve(url)
        except NameNotResolved as error:
            raise _nameless(error) from error
        except Unavailable as error:
            raise technical("dns_failed", error.message, remedy=error.remedy or "") from error
        progress.naming = ""
        return target

    @asynccontextmanager
    async def _send(
        self, call: Call, url: str, target: Target, progress: _Progress
    ) -> AsyncIterator[httpx2.Response]:
        """Send to the first pinned address that accepts a connection."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx2.create_ssl_context)
        timeout = httpx2.Timeout(None, connect=_CONNECT_SECONDS)
        async with httpx2.AsyncClient(verify=self._tls, trust_env=False, timeout=timeout) as client:
            for address in target.addresses:
                outgoing = _pinned(client, call, url, target, address, progress)
                try:
                    response = await client.send(outgoing, stream=True)
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    if address != target.addresses[-1]:
                        continue
                    raise _unreachable(target, error) from error
                try:
                    yield response
                finally:
                    await response.aclose()
                return

    async def _finish(self, request: ActionRequest, call: Call, response: httpx2.Response) -> ExecutionResult:
        if response.is_success:
            return await self._answers.read(request.tenant, call, response)
        raise await _refused(request, call, response)


class _Used:
    """The secrets, remembering which were given out: those may not come back."""

    def __init__(self, secrets: SecretsManager) -> None:
        self._secrets = secrets
        self.values: set[str] = set()

    def resolve(self, tenant: str, name: str) -> str:
        value = self._secrets.resolve(tenant, name)
        self.values.add(value)
        return value

    def known(self, tenant: str) -> frozenset[str]:
        return self._secrets.known(tenant)


@dataclass(slots=True)
class _Progress:
    """How far the request has come, and the connections it opened.

    The client library forgets a connection that is cancelled within its TLS handshake; here it is not
    forgotten.
    """

    sent: bool = False
    naming: str = ""
    """The host that is being looked up."""
    opened: list[Any] = field(default_factory=list)

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(".send_request_headers.started"):
            self.sent = True
        elif event.endswith(".connect_tcp.complete"):
            self.opened.append(info["return_value"])

    async def release(self) -> None:
        """Close what was opened; closing twice is harmless."""
        while self.opened:
            await self.opened.pop().aclose()


def _pinned(
    client: httpx2.AsyncClient, call: Call, url: str, target: Target, address: str, progress: _Progress
) -> httpx2.Request:
    """The request, to this address, in the name of the host."""
    pinned = httpx2.URL(url).copy_with(host=address, port=target.port, fragment=None)
    headers = httpx2.Headers(
        {
            "User-Agent": f"cpa/{cpa.__version__}",
            "Accept": "application/json, */*;q=0.8",
            "Accept-Encoding": "identity",
        }
    )
    headers.update(call.headers)
    headers["Host"] = target.authority
    extensions: dict[str, Any] = {"trace": progress.trace}
    if (name := target.server_name(address)) is not None:
        extensions["sni_hostname"] = name
    return client.build_request(
        call.method, pinned, headers=headers, content=call.body, extensions=extensions
    )


def _redirected(call: Call, url: str, response: httpx2.Response) -> str:
    """Where a redirect leads, if it may be followed."""
    location = response.headers.get("location", "")
    try:
        onward = urljoin(url, location)
    except ValueError:
        onward = location
    if call.method not in ("GET", "HEAD"):
        raise business(
            "redirect_refused",
            f"the service redirects a {call.method} to {onward}",
            remedy="call that address itself, if it is the right one",
        )
    if not location or _origin(onward) != _origin(url):
        raise business(
            "redirect_refused",
            f"the service redirects to another origin: {onward}",
            remedy="call that address itself, if it is the right one",
        )
    return onward


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None


def _nameless(error: NameNotResolved) -> Stopped:
    return technical(error.code, error.message, remedy=error.remedy or "", retry_after=REFUSED)


def _unreachable(target: Target, error: Exception) -> Stopped:
    where = f"{target.host}:{target.port}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return business(
                "http_tls_failed",
                f"the certificate of {where} is not valid: {cause.verify_message}",
                remedy="check the host name, or have the service's certificate renewed",
            )
        cause = cause.__cause__ or cause.__context__
    return technical(
        "http_unreachable",
        f"{where} cannot be reached: {error or type(error).__name__}",
        remedy="it is tried again; check whether the service runs",
    )


def _broken(request: ActionRequest, progress: _Progress, code: str, what: str) -> Stopped:
    if not progress.sent or request.effect is EffectClass.IDEMPOTENT:
        return technical(code, what, remedy="it is tried again; check the service if it lasts")
    return Stopped(
        FailureClass.UNKNOWN_OUTCOME,
        code,
        f"{what}, after the request had been sent",
        remedy="look at the service whether the request was carried out",
    )


async def _refused(request: ActionRequest, call: Call, response: httpx2.Response) -> Stopped:
    """What an answer other than 2xx and 3xx means."""
    status = response.status_code
    said = await excerpt(response)
    message = f"{call.method} {call.shown} was answered with {status}" + (f": {said}" if said else "")
    code = f"http_{status}"
    if status in _NOT_DONE or (status in _MAYBE_DONE and request.effect is EffectClass.IDEMPOTENT):
        return technical(
            code,
            message,
            remedy="it is tried again; check the service if it lasts",
            retry_after=retry_after(response.headers),
        )
    if status in _MAYBE_DONE:
        return Stopped(
            FailureClass.UNKNOWN_OUTCOME,
            code,
            message,
            remedy="look at the service whether the request was carried out; a task whose service honours the "
            "Idempotency-Key header may say `effect: idempotent`",
        )
    if status in (401, 403):
        return business(code, message, remedy="check the credential in the headers and its rights")
    return business(code, message, remedy="correct the request by what the service says, and retry the job")
