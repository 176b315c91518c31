"""An address that hangs up at once."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def resetting(most: int) -> Iterator[tuple[str, list[int]]]:
    """An address where the first `most` connections are reset as soon as they stand, and later ones are answered;
    and how many there were."""
    count = [0]

    class Meeting(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            count[0] += 1
            if count[0] <= most:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            length = 0
            while (line := self.rfile.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            self.wfile.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    class Address(socketserver.TCPServer):
        def shutdown_request(self, request: Any) -> None:
            self.close_request(request)

    with Address(("127.0.0.1", 0), Meeting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", count
        finally:
            server.shutdown()
            thread.join()
