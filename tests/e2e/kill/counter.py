"""A web service that takes orders, counts them durably, and knows each `Idempotency-Key` again.

    python -m tests.e2e.kill.counter FOLDER     prints {"port": …} as one JSON line when ready; ends with its
                                                input or on SIGTERM

    POST /orders   {"serial": …} with an Idempotency-Key: an order, once per key; the same answer ever after
    POST /pace     {"total": n}: from now on, as many orders as that may have been taken; others wait

`orders.jsonl` gets one line per order taken, on disk before the answer. The pace makes work last as long as a test
needs, on a fast machine and on a slow one. A request whose sender died meanwhile is carried out all the same.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LONGEST = 300.0
"""Seconds after which a waiting order is refused."""


class Orders:
    """What was ordered, by key; shared by all requests."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._taken: dict[str, str] = {}
        self._pace = 0
        self._changed = threading.Condition()

    def allow(self, total: int) -> None:
        with self._changed:
            self._pace = max(total, self._pace)
            self._changed.notify_all()

    def order(self, key: str, serial: str) -> tuple[str, bool]:
        """The order's number, and whether it was known; waits for the pace."""
        with self._changed:
            self._changed.wait_for(lambda: key in self._taken or len(self._taken) < self._pace, LONGEST)
            if key in self._taken:
                return self._taken[key], True
            if len(self._taken) >= self._pace:
                raise TimeoutError("no order may be taken now")
            number = f"B-{len(self._taken) + 1:05}"
            self._write({"key": key, "serial": serial, "number": number})
            self._taken[key] = number
            return number, False

    def _write(self, order: dict[str, Any]) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, json.dumps(order).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    orders: Orders

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/pace":
            self.orders.allow(body["total"])
            return self._answer(200, {})
        key = self.headers["Idempotency-Key"]
        if self.path != "/orders" or not key:
            return self._answer(400, {"error": "POST /orders with an Idempotency-Key"})
        try:
            number, known = self.orders.order(key, body["serial"])
        except TimeoutError as error:
            return self._answer(503, {"error": str(error)})
        return self._answer(200, {"number": number, "known": known})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            self.close_connection = True  # who asked is dead; the order stands

    def log_message(self, format: str, *arguments: object) -> None:
        """Silence: the count is the log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def taken(folder: Path) -> Counter[tuple[str, str]]:
    """How often each (serial, key) was ordered."""
    try:
        lines = (folder / "orders.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return Counter()
    orders = [json.loads(line) for line in lines[:-1]]
    return Counter((order["serial"], order["key"]) for order in orders)


def main() -> None:
    Handler.orders = Orders(Path(sys.argv[1]) / "orders.jsonl")
    with Server(("127.0.0.1", 0), Handler) as server:
        print(json.dumps({"port": server.server_address[1]}), flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main()
