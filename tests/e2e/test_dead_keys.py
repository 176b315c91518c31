"""A key that is revoked opens nothing any more, also not for who had begun to speak with it: a request whose body
was not there yet, a channel that had not greeted yet."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.agents.client import Client
from tests.servers.ports import wait_until
from tests.servers.scheduler import Scheduler, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

WORK = "x.w.do"
HERE = {"name": "eins", "type": "DATA", "capabilities": [WORK], "slots": 5}


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    with serving(tmp_path_factory.mktemp("dead-keys")) as running:
        yield running


@pytest.fixture
def client(scheduler: Scheduler) -> Iterator[Client]:
    with closing(Client(scheduler)) as found:
        yield found


class Begun:
    """A request of which the last byte is still to come."""

    def __init__(self, scheduler: Scheduler, path: str, key: str, body: Any) -> None:
        at, raw = urlsplit(scheduler.url), json.dumps(body).encode()
        assert at.hostname is not None
        self._last = raw[-1:]
        self._socket = socket.create_connection((at.hostname, at.port), timeout=20)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {at.netloc}\r\nX-API-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
        )
        self._socket.sendall(head.encode() + raw[:-1])

    def end(self) -> int:
        """Send it; the status of the answer."""
        with self._socket:
            self._socket.sendall(self._last)
            with self._socket.makefile("rb") as answer:
                return int(answer.readline().split()[1])


def registered(client: Client, name: str) -> dict[str, Any]:
    answer = client.post("/agents/register", HERE | {"name": name, "instance": "i1"})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def put_out(client: Client, agent: dict[str, Any]) -> dict[str, Any]:
    """Its key is revoked, and another agent gets its name."""
    answer = client.post(f"/agents/{agent['agent_id']}/state", {"state": "revoked"})
    assert answer.status_code == 200, answer.text
    return registered(client, agent["address"].rpartition("/")[2])


def heard(channel: ClientConnection) -> list[dict[str, Any]]:
    """All frames, until it is closed."""
    frames: list[dict[str, Any]] = []
    try:
        while True:
            frames.append(json.loads(channel.recv(20)))
    except ConnectionClosed:
        return frames


def test_a_registration_that_was_begun_takes_no_new_agents_place(
    scheduler: Scheduler, client: Client
) -> None:
    agent = registered(client, "meldet")
    body = HERE | {"name": "meldet", "instance": "i2", "incarnation": 7, "slots": 9}
    begun = Begun(scheduler, "/agents/register", agent["key"], body)
    newer = put_out(client, agent)
    assert begun.end() == 401
    assert client.get(f"/agents/{newer['agent_id']}")["slots"] == 5


def test_an_answer_that_was_begun_is_not_the_new_agents(scheduler: Scheduler, client: Client) -> None:
    agent = registered(client, "antwortet")
    message = {
        "id": "3c1f3c1a-7d1f-4f62-9f53-0d8f9a3f6c11",
        "ts": "2026-11-24T08:30:00Z",
        "type": "offer",
        "sender": agent["address"],
        "to": ["agent://scheduler/cpa"],
        "payload": {"capabilities": ["x.w.more"]},
    }
    begun = Begun(scheduler, "/lam/message", agent["key"], message)
    newer = put_out(client, agent)
    assert begun.end() == 401
    kept = client.get(f"/agents/{newer['agent_id']}")
    assert kept["actions"] == [WORK], kept


def test_what_a_person_had_begun_to_say_does_not_count(scheduler: Scheduler, client: Client) -> None:
    def cpa(*words: str) -> str:
        command = [sys.executable, "-m", "cpa", "keys", *words, "--data", str(scheduler.data)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    key = next(word for word in cpa("add", "anna", "--scope", "submit").split() if word.startswith("cpa_"))
    (id,) = [line.split()[0] for line in cpa("list").splitlines() if "anna" in line]
    before = client.get("/jobs")["total"]
    begun = Begun(scheduler, "/jobs", key, {"task_graph": [{"id": "t", "action": "flow.noop"}]})
    cpa("revoke", id)
    # Another process revoked it: here it is known for as long as a key is remembered.
    wait_until(lambda: Begun(scheduler, "/jobs", key, {}).end() == 401, "the end of the key")
    assert begun.end() == 401
    assert client.get("/jobs")["total"] == before


@pytest.mark.parametrize("how", ["revoked", "restarted"])
def test_a_channel_that_greets_late_is_not_the_new_ones(
    scheduler: Scheduler, client: Client, how: str
) -> None:
    agent = registered(client, f"kanal-{how}")
    url = f"{scheduler.url.replace('http', 'ws', 1)}/agents/{agent['agent_id']}/channel"
    with connect(url, additional_headers={"X-API-Key": agent["key"]}, proxy=None) as channel:
        if how == "revoked":
            put_out(client, agent)
        else:
            body = HERE | {"name": f"kanal-{how}", "instance": "i2", "incarnation": 2}
            assert Begun(scheduler, "/agents/register", agent["key"], body).end() == 200
        channel.send(json.dumps({"hello": {"instance": "i1"}}))
        assert not any({"hello", "message"} & frame.keys() for frame in heard(channel))
