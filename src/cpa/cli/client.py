"""A small client of the HTTP API: what the command line needs, with errors as values of `cpa.errors`.

Answers come back as plain JSON values, as the API documents them. A problem document becomes the `CPAError`
it was made from; a server that cannot be reached becomes `Unreachable`. Nothing is tried twice here (see
`waiting.Silence`): what must not be doubled carries an `Idempotency-Key`.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

import httpx2

from cpa import errors
from cpa.core.names import sendable
from cpa.errors import CPAError, InternalError, Unavailable

QUIET = 0.5
"""Seconds without a frame after which a stream says so."""
TIMEOUT = 30.0
"""Seconds one request may take, beside the time it asked the server to wait."""


SLOW = 2.0
"""Seconds after which whoever waits for a change is told so."""
_ORIGIN = "X-Correlation-ID"
"""In every answer of ours."""
_GATEWAY = (502, 503, 504)
"""What a proxy answers while the server behind it is away."""
_GOING_AWAY = 1001
"""With what a server that stops closes its streams."""


class Unreachable(Unavailable):
    """Nobody answers at the server's address."""

    code: ClassVar[str] = "unreachable"
    sent = False
    """Whether a change that was asked for may have arrived, and only its answer is missing."""


class Client:
    """One server, one credential. Close it, or use it as a context manager.

    Not for use from several threads at once. `slow` is called, from a thread of its own, when the server takes
    `SLOW` seconds for a change; it is taken, or refused, all the same.
    """

    def __init__(
        self, url: str, key: str = "", *, timeout: float = TIMEOUT, slow: Callable[[], None] | None = None
    ) -> None:
        self.url = _checked(url)
        self.answered = False
        """Whether the server ever did: one that never did is rather not there than started again."""
        self._slow = slow
        self._key = _printable(key)
        self._timeout = timeout
        headers = {"X-API-Key": key} if key else {}
        # Proxies of the environment are for the web, not for a server named on purpose.
        self._http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=timeout,
            trust_env=False,
            verify=ssl.create_default_context() if self.url.startswith("https:") else True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, *, patience: float = 0.0, **params: Any) -> Any:
        """The answer's JSON; parameters that are None or empty are left out. `patience` seconds are added to
        the time allowed, for what the server was asked to wait for."""
        return self._ask("GET", path, params=_given(params), timeout=self._timeout + patience)

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str = "", **params: Any) -> Any:
        """`key` is sent as `Idempotency-Key`; `BadInput` for one with other than visible ASCII signs."""
        if not sendable(key):
            raise errors.BadInput(
                "this idempotency key holds a character other than visible ASCII ones",
                field="Idempotency-Key",
                value=key,
                remedy="use letters from a to z, digits and signs, without blanks",
            )
        headers = {"Idempotency-Key": key} if key else {}
        return self._ask("POST", path, json=dict(body or {}), params=_given(params), headers=headers)

    def download(self, path: str) -> tuple[str, Iterator[bytes]]:
        """A file's name, and its bytes as they come; the bytes must be taken to their end."""
        request = self._http.build_request("GET", path)
        try:
            response = self._http.send(request, stream=True)
            if not response.is_success:
                raise _problem(response.status_code, response.read())
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        _, _, name = response.headers.get("Content-Disposition", "").partition("filename*=UTF-8''")
        return unquote(name), self._chunks(response)

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_bytes()
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def delete(self, path: str, **params: Any) -> Any:
        return self._ask("DELETE", path, params=_given(params))

    def follow(self, job: str, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """Frames of `WS /ws/jobs/{id}` after event number `after`, until the server says that the run ended; and
        `{"type": "quiet"}` whenever nothing has come for `QUIET` seconds.

        The connection going away raises `Unreachable`; call again with the last number seen to resume.
        """
        from websockets.exceptions import (
            ConnectionClosed,
            ConnectionClosedOK,
            InvalidStatus,
            WebSocketException,
        )
        from websockets.sync.client import connect

        scheme, host, path, *_ = urlsplit(self.url)
        query = urlencode({"last_seq": after})
        where = urlunsplit(
            ("wss" if scheme == "https" else "ws", host, f"{path}/ws/jobs/{quote(job)}", query, "")
        )
        headers = {"X-API-Key": self._key} if self._key else {}
        try:
            with connect(where, additional_headers=headers, open_timeout=self._timeout, proxy=None) as socket:
                while True:
                    try:
                        yield json.loads(socket.recv(timeout=QUIET))
                    except TimeoutError:
                        yield {"type": "quiet"}
        except ConnectionClosedOK as error:
            if error.rcvd is not None and error.rcvd.code == _GOING_AWAY:
                raise _closed(_GOING_AWAY, error.rcvd.reason) from error
        except InvalidStatus as error:
            raise _problem(error.response.status_code, bytes(error.response.body or b"")) from error
        except ConnectionClosed as error:
            raise _closed(
                error.rcvd.code if error.rcvd else 1006, error.rcvd.reason if error.rcvd else ""
            ) from error
        except (OSError, WebSocketException) as error:
            raise self._unreachable(error) from error

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            with self._patience(method):
                response = self._http.request(method, path, **options)
        except httpx2.HTTPError as error:
            away = self._unreachable(error)
            away.sent = method != "GET" and not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise away from error
        self.answered |= _ORIGIN in response.headers
        if response.is_success:
            _check_origin(response.headers)
            return _json(response.content) if response.content else None
        found = _problem(response.status_code, response.content)
        if isinstance(found, Unreachable):
            found.sent = method != "GET"
        raise found

    @contextmanager
    def _patience(self, method: str) -> Iterator[None]:
        """Whoever waits for a change is told; who reads may have asked to wait."""
        if self._slow is None or method == "GET":
            yield
            return
        told = threading.Timer(SLOW, self._slow)
        told.daemon = True
        told.start()
        try:
            yield
        finally:
            told.cancel()

    def _unreachable(self, error: Exception) -> Unreachable:
        slow = isinstance(error, (httpx2.ReadTimeout, TimeoutError))
        what = "did not answer in time" if slow else "cannot be reached"
        return Unreachable(
            f"the server at {self.url} {what}",
            value=str(error) or type(error).__name__,
            remedy="start it with `cpa serve`, or name another one with CPA_URL",
        )


def _checked(url: str) -> str:
    """The server's address without a slash at the end; `BadInput` for what is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise errors.BadInput(
            f"{url!r} is no address of a server",
            field="CPA_URL",
            remedy="give one such as http://127.0.0.1:8700",
        )
    return url.rstrip("/")


def _printable(key: str) -> str:
    """The key; `BadInput`, which does not show it, for what cannot be sent as one."""
    if not sendable(key):
        raise errors.BadInput(
            "the API key holds a character that no key has",
            field="CPA_API_KEY",
            remedy="copy it anew, without quotes, blanks and line breaks",
        )
    return key


def _check_origin(headers: Mapping[str, str]) -> None:
    """`InternalError` for the answer of another program: every answer of ours has a correlation id."""
    if _ORIGIN not in headers:
        raise InternalError(
            "that answer is not from a CPA server", remedy="check that CPA_URL names a CPA server"
        )


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value not in (None, "")}


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InternalError(
            "the answer is no JSON",
            value=content[:200].decode(errors="replace"),
            remedy="check that CPA_URL names a CPA server",
        ) from error


def _problem(status: int, content: bytes) -> CPAError:
    """The error a problem document was made from; `Unreachable` where a proxy says that nobody is there."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    found = CPAError.of_problem(status, body)
    if isinstance(body, dict) and "code" in body:
        return found
    if status in _GATEWAY:
        found = Unreachable(found.message)
    found.remedy = found.remedy or "check that CPA_URL names a CPA server of this version, and that it runs"
    return found


def _closed(code: int, reason: str) -> CPAError:
    """Why the server closed a stream: 4000 + HTTP status for errors, else it went away."""
    if 4400 <= code < 4600:
        return CPAError.of_status(code - 4000)(reason or f"the server closed the stream ({code})")
    return Unreachable(
        f"the stream ended ({code} {reason})".replace(" )", ")"), remedy="call again to resume"
    )
