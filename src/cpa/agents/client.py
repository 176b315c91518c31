"""The scheduler's API as agents use it: register, beat, hand in messages.

Problem documents become the `CPAError`s they were made from; a scheduler that cannot be reached is `Unreachable`,
one that has trouble of its own (5xx, also of a proxy) is `Unavailable`: what is not retryable is its no. Nothing is
tried twice here.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from cpa.agents.signing import Signer
from cpa.core.lam_protocol import BaseMessage
from cpa.core.names import sendable
from cpa.errors import BadInput, CPAError, Unauthorized, Unavailable
from cpa.ports.agents import Beat, Named
from cpa.ports.nonces import Replayed

TIMEOUT: Final = 30.0
"""Seconds one request may take."""


LATE: Final = 30
"""Seconds after which a signature that is refused may have been good when it was made."""


FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries to reach the scheduler."""


def longer(pause: float) -> float:
    """Seconds to wait for the scheduler after one more try in vain; `pause` was the last wait, 0 at first."""
    return min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)


class Unreachable(Unavailable):
    """Nobody answers at the scheduler's address."""

    code: ClassVar[str] = "unreachable"


class SchedulerClient:
    """One scheduler, and at each time one credential. An asynchronous context manager."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        timeout: float = TIMEOUT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`BadInput` for what is no address. `transport` stands in for the network."""
        self.url = checked_url(url)
        self.key = key
        self.signer: Signer | None = None
        """Signs every request, once it has a name for its key."""
        # Proxies of the environment are for the web, not for a server named on purpose; authorities are for it too.
        trusted = ssl.create_default_context() if transport is None else False
        self._http = httpx2.AsyncClient(
            base_url=self.url, timeout=timeout, trust_env=False, verify=trusted, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def register(self, said: Mapping[str, Any], *, token: str = "") -> Mapping[str, Any]:
        """Register, or come back; with the key of this client, or with an enrolment token. `BadInput`, which does
        not show it, for one that cannot be sent."""
        for field, text in (("key", self.key), ("token", token)):
            if not sendable(text):
                raise BadInput(
                    f"it holds a character that no {field} has",
                    field=field,
                    remedy="copy it anew, without quotes, blanks and line breaks",
                )
        headers = {"X-Enrolment-Token": token} if token else {}
        body = json.dumps(said).encode()
        try:
            return await self._ask("POST", "/agents/register", body, headers)
        except Unauthorized as error:
            # It was registered before, and the answer, which says by which name it signs, did not arrive.
            if self.signer is None or self.signer.key or error.field != "Signature" or not error.value:
                raise
            self.signer.key = str(error.value)
            return await self._ask("POST", "/agents/register", body, headers)

    async def beat(self, agent: str, beat: Beat, *, patience: float = TIMEOUT) -> Mapping[str, Any]:
        """Say that the agent of this id lives. `Unreachable` when there is no answer within `patience` seconds."""
        body = json.dumps(beat_body(beat)).encode()
        try:
            async with asyncio.timeout(patience):
                return await self._ask("POST", f"/agents/{quote(agent, safe='')}/heartbeat", body)
        except TimeoutError as error:
            raise unreachable(self.url, error) from error

    async def hand_in(self, message: BaseMessage | bytes) -> Mapping[str, Any]:
        """Hand in a LAM message; the answer says what it did."""
        body = message if isinstance(message, bytes) else message.to_json()
        return await self._ask("POST", "/lam/message", body)

    async def _ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        sent = {"Content-Type": "application/json"} | dict(headers or {})
        if self.key:
            sent["X-API-Key"] = self.key
        try:
            request = self._http.build_request(method, path, content=body, headers=sent)
            signed = 0 if self.signer is None else self.signer.now()
            if self.signer is not None and self.signer.key:
                request.headers.update(self.signer.headers(method, str(request.url), body))
            response = await self._http.send(request)
        except (httpx2.HTTPError, AttributeError) as error:
            # A socket that is gone before it was looked at is an AttributeError on some loops.
            raise unreachable(self.url, error) from error
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = None
        if not response.is_success:
            problem = CPAError.of_problem(response.status_code, answer)
            if isinstance(problem, Replayed):
                # Not ours: something on the way sent a copy. It is signed anew when it is sent again.
                raise Unreachable(
                    "a copy of this request was there before it", remedy="send it again"
                ) from problem
            refused = isinstance(problem, Unauthorized) and problem.field == "created"
            if refused and self.signer is not None and self.signer.now() - signed >= LATE:
                # A clock that is wrong stays wrong; a process that stood still signs anew.
                raise Unreachable("this request was too long under way", remedy="send it again") from problem
            if problem.status >= 500 and not problem.retryable:
                # That something is wrong there is no answer to what was asked.
                raise Unavailable(problem.message, value=problem.value, remedy=problem.remedy) from problem
            raise problem
        if not isinstance(answer, dict):
            raise Unavailable(
                f"{self.url} did not answer with an object", remedy="check that it is a CPA server"
            )
        return answer


def checked_url(url: str) -> str:
    """The scheduler's address without a slash at the end; `BadInput` for what is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise BadInput(
            f"{url!r} is no address of a scheduler",
            field="url",
            value=url,
            remedy="give one such as http://127.0.0.1:8700",
        )
    return url.rstrip("/")


def unreachable(url: str, error: BaseException) -> Unreachable:
    """What an agent says of a scheduler that could not be asked."""
    if (untrusted := _certificate(error)) is not None:
        return Unreachable(
            f"the certificate of the scheduler at {url} is not accepted: {untrusted.verify_message}",
            value=str(untrusted),
            remedy="call it by the name in its certificate; SSL_CERT_FILE names an authority of your own",
        )
    slow = isinstance(error, (httpx2.ReadTimeout, TimeoutError))
    return Unreachable(
        f"the scheduler at {url} {'did not answer in time' if slow else 'cannot be reached'}",
        value=str(error) or type(error).__name__,
        remedy="check that it runs there, and the address given with --url",
    )


def _certificate(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The certificate's fault behind an error, if it was one."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def beat_patience(lease: float) -> float:
    """Seconds after which a beat counts as lost: with the next one there are two within a lease, and one that
    vanishes costs no attempt."""
    return max(lease / 2, 1.0)


def beat_body(beat: Beat) -> dict[str, Any]:
    """A heartbeat on the wire."""
    body: dict[str, Any] = {
        "status": beat.status.value,
        "current_load": beat.load,
        "running": [{"job": each.job, "task": each.task, "epoch": each.epoch} for each in beat.running],
        "instance": beat.instance,
    }
    if beat.free is not None:
        body["available_slots"] = beat.free
    if readiness := msgspec.to_builtins(beat.readiness):
        body["readiness"] = readiness
    return body


def lost_in(answer: Mapping[str, Any]) -> tuple[Named, ...]:
    """The attempts that the answer to a beat takes away."""
    return tuple(Named(each["job"], each["task"], each["epoch"]) for each in answer.get("lost") or ())
