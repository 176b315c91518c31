"""An agent that knows nothing of this project but docs/lam.md: JSON over a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx2
from tests.servers.scheduler import Scheduler
from websockets.sync.client import ClientConnection, connect


@contextmanager
def raw_agent(scheduler: Scheduler, name: str, *capabilities: str) -> Iterator[RawAgent]:
    """Register it, and open its channel."""
    said = {"name": name, "type": "DATA", "capabilities": capabilities, "slots": 1, "instance": "raw"}
    told = httpx2.post(
        f"{scheduler.url}/agents/register", json=said, headers={"X-API-Key": scheduler.key}, timeout=60
    )
    assert told.status_code in (200, 201), told.text
    where = f"{scheduler.url.replace('http', 'ws', 1)}/agents/{told.json()['agent_id']}/channel"
    key = told.json()["key"]
    with connect(where, additional_headers={"X-API-Key": key}, proxy=None, open_timeout=60) as socket:
        yield RawAgent(told.json()["address"], key, socket)


class RawAgent:
    """One that is on its channel."""

    def __init__(self, address: str, key: str, socket: ClientConnection) -> None:
        self.address, self.key, self._socket = address, key, socket
        self._number = 0
        self._kept: list[dict[str, Any]] = []
        """Frames that nobody has asked for yet."""
        self._send({"hello": {"stream": "", "cursor": 0, "instance": "raw"}})
        assert "hello" in self._next()
        self.beat()

    def beat(self, *about: dict[str, Any]) -> None:
        """Live, and name the attempts of these requests."""
        keys = {"job": "jobId", "task": "taskId", "epoch": "epoch"}
        running = [{name: each["correlation"][key] for name, key in keys.items()} for each in about]
        self._send({"beat": {"status": "online", "instance": "raw", "running": running}})
        self._until(lambda frame: "lost" in frame)

    def take(self, type: str) -> dict[str, Any]:
        """The next message of this type; others are taken and forgotten."""
        while True:
            frame = self._until(lambda frame: "message" in frame)
            self._send({"ack": frame["seq"]})
            if frame["message"]["type"] == type:
                return dict(frame["message"])

    def say(self, type: str, about: dict[str, Any], payload: dict[str, Any]) -> str:
        """Say something of a request; what it did."""
        self._number += 1
        message = {
            "id": str(uuid4()),
            "ts": about["ts"],
            "type": type,
            "sender": self.address,
            "to": ["agent://scheduler/cpa"],
            "payload": payload,
            "correlation": about["correlation"] | {"inReplyTo": about["id"]},
        }
        number = self._number
        self._send({"seq": number, "message": message})
        answer = self._until(lambda frame: frame.get("ack") == number)
        assert "problem" not in answer, answer
        return str(answer["effect"])

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        for frame in self._kept:
            if wanted(frame):
                self._kept.remove(frame)
                return frame
        while not wanted(frame := self._next()):
            self._kept.append(frame)
        return frame

    def _next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self._socket.recv(timeout=60))
        return frame

    def _send(self, frame: dict[str, Any]) -> None:
        self._socket.send(json.dumps(frame))
