"""The client against servers that answer badly, and streams that break off."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from cpa import errors
from cpa.cli import client
from cpa.cli.client import Client, Unreachable
from cpa.cli.watch import follow
from cpa.errors import CPAError

JOB = "0198c2a0-0000-7000-8000-000000000000"
Stream = Callable[[ServerConnection], None]


@contextmanager
def answering(
    status: int = 200,
    body: bytes = b"{}",
    stream: Stream = lambda socket: None,
    *,
    ours: bool = True,
) -> Iterator[tuple[str, list[Request]]]:
    """A server that gives every request this answer, and every WebSocket to `stream`; its URL and what it got."""
    seen: list[Request] = []

    def process(connection: ServerConnection, request: Request) -> Response | None:
        seen.append(request)
        if request.path.startswith("/ws/") and status == 200:
            return None
        headers = Headers({"Content-Length": str(len(body))})
        if ours:
            headers["X-Correlation-ID"] = "c-1"
        return Response(status, HTTPStatus(status).phrase, headers, body)

    with serve(stream, "127.0.0.1", 0, process_request=process) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def problem(error: CPAError) -> bytes:
    return json.dumps(error.problem()).encode()


@pytest.mark.parametrize(
    "kind", [errors.NotFound, errors.Conflict, errors.Unauthorized, errors.UnknownIntent]
)
def test_a_problem_document_becomes_its_error_again(kind: type[CPAError]) -> None:
    said = kind("so nicht", field="text", value="Grüße", remedy="anders")
    with (
        answering(said.status, problem(said)) as (url, _),
        Client(url) as api,
        pytest.raises(kind) as caught,
    ):
        api.get("/jobs")

    assert str(caught.value) == str(said)
    assert type(caught.value) is kind


def test_another_server_s_error_page_is_no_traceback() -> None:
    with (
        answering(502, b"<html>bad gateway</html>") as (url, _),
        Client(url) as api,
        pytest.raises(CPAError, match="answered 502"),
    ):
        api.get("/jobs")


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_before_a_server_that_is_away_is_told_from_the_server(status: int) -> None:
    """It is asked again where somebody waits; what was sent to it may have arrived."""
    busy = errors.Unavailable("the server is stopping")
    with answering(status, b"<html>", ours=False) as (url, _), Client(url) as api:
        with pytest.raises(Unreachable) as read:
            api.get("/jobs")
        with pytest.raises(Unreachable) as changed:
            api.delete("/jobs/1")
        assert (read.value.sent, changed.value.sent, api.answered) == (False, True, False)
    with answering(busy.status, problem(busy)) as (url, _), Client(url) as api:
        with pytest.raises(errors.Unavailable) as said:
            api.get("/jobs")
        assert (type(said.value), api.answered) == (errors.Unavailable, True)


def test_an_answer_that_is_no_json_names_the_setting() -> None:
    with answering(200, b"<html>") as (url, _), Client(url) as api, pytest.raises(CPAError, match="CPA_URL"):
        api.get("/jobs")


@pytest.mark.parametrize("body", [b"[]", b"null", b"{}", b'{"jobs": 5}'])
def test_the_answer_of_another_program_names_the_setting(body: bytes) -> None:
    with (
        answering(200, body, ours=False) as (url, _),
        Client(url) as api,
        pytest.raises(CPAError, match="CPA_URL"),
    ):
        api.get("/jobs")


def test_nobody_there(free_port: int) -> None:
    with Client(f"http://127.0.0.1:{free_port}") as api, pytest.raises(Unreachable, match="cpa serve"):
        api.get("/jobs")


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(errors.BadInput, match="CPA_URL"):
        Client(url)


def test_the_key_is_sent_in_a_header_and_never_in_the_address() -> None:
    with answering() as (url, seen), Client(url, "secret") as api:
        api.get("/jobs", status="", limit=5)

    assert seen[0].headers["X-API-Key"] == "secret"
    assert seen[0].path == "/jobs?limit=5"


def test_a_stream_refused_tells_why() -> None:
    said = errors.NotFound("there is no such job", remedy="list them")
    with (
        answering(404, problem(said)) as (url, _),
        Client(url) as api,
        pytest.raises(errors.NotFound, match="there is no such job"),
    ):
        list(api.follow(JOB))


def test_watching_resumes_after_the_last_event_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """The stream breaks after every event; none is lost and none is shown twice."""

    def stream(socket: ServerConnection) -> None:
        assert socket.request is not None
        after = int(socket.request.path.rpartition("=")[2])
        if after == 3:
            socket.send(json.dumps({"type": "end", "status": "done", "last_seq": 3}))
            return
        socket.send(json.dumps(event(after + 1)))
        socket.close(1001)

    with answering(200, json.dumps(detail()).encode(), stream) as (url, _), Client(url) as api:
        status = follow(api, JOB)

    shown = capsys.readouterr().out
    assert status == "done"
    assert [shown.count(f"step {number}") for number in (1, 2, 3)] == [1, 1, 1]


def test_a_revoked_key_ends_watching() -> None:
    def stream(socket: ServerConnection) -> None:
        socket.send(json.dumps(errors.Unauthorized("this API key is not accepted").problem()))
        socket.close(4401, "this API key is not accepted")

    with (
        answering(200, json.dumps(detail()).encode(), stream) as (url, _),
        Client(url) as api,
        pytest.raises(errors.Unauthorized),
    ):
        follow(api, JOB)


def event(seq: int) -> dict[str, Any]:
    return {
        "type": "event",
        "event": "task_started",
        "seq": seq,
        "time": "2026-11-24T08:30:00.000Z",
        "task": "öffnen",
        "summary": f"step {seq}",
        "leaf": "00",
    }


def detail() -> dict[str, Any]:
    task = {
        "id": "öffnen",
        "action": "flow.noop",
        "status": "done",
        "depends_on": [],
        "attempts": 1,
        "error": None,
    }
    return {
        "job": {"id": JOB, "status": "done", "description": "", "intent": "x"},
        "status": "done",
        "tasks": [task],
    }


class Hesitant(BaseHTTPRequestHandler):
    """Answers once `told` is set."""

    told: threading.Event

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        well = self.told.wait(20)
        self.send_response(200 if well else 500)
        self.send_header("X-Correlation-ID", "c-1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None: ...


def test_who_waits_for_a_change_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SLOW", 0.05)
    monkeypatch.setattr(Hesitant, "told", threading.Event(), raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hesitant) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with Client(f"http://127.0.0.1:{server.server_port}", slow=Hesitant.told.set) as api:
                assert api.post("/jobs") == {}
        finally:
            server.shutdown()


def test_who_reads_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SLOW", 0)
    told = list[str]()
    with answering() as (url, _), Client(url, slow=lambda: told.append("slow")) as api:
        api.get("/jobs", wait=20)
    assert told == []
