"""A real SMTP server with AUTH, in front of Dovecot's LMTP, with faults on demand and a durable count.

Everything a test says to it or asks of it goes through files in its folder, so it is the same whether the
server runs in this process or in another one (`python -m tests.servers.mail`):

- `faults.json`: what goes wrong, as `Faults` writes it; read anew for every transaction;
- `accepted.jsonl`: one line per message the server took responsibility for, on disk before its 250.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import smtplib
import ssl
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from email import message_from_bytes
from pathlib import Path
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.servers.ports import free_port

USER = "cpa"
PASSWORD = "secret"
_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What the server does wrong; nothing by default. Replaced as a whole with `SmtpServer.inject`."""

    recipients: dict[str, str] = field(default_factory=dict)
    """Recipient to the answer its RCPT gets, such as `550 5.1.1 unknown`."""
    sender: str = ""
    """The answer to MAIL."""
    data: str = ""
    """The answer to the final dot, instead of delivering."""
    break_at: str = ""
    """Where the connection is cut: `rcpt`, `data` (before 354), `dot` (message dropped, no answer) or
    `answer` (message delivered, no answer)."""
    delay: float = 0.0
    """Seconds between the delivery and its 250."""
    kill: int = 0
    """The process that gets SIGKILL right after a message's 250 has left."""
    times: int = -1
    """How many messages or recipients the fault meets before it heals; -1 is all."""


class SmtpServer:
    """Context manager; listens on `port` inside the block. Delivers to LMTP at `lmtp_port`, or keeps only
    count."""

    def __init__(
        self,
        folder: Path,
        *,
        lmtp_port: int = 0,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self._handler = _Handler(folder, lmtp_port)
        self._controller = _Controller(self._handler, self.port, tls, implicit)

    def url(self, user: str = USER, password: str = PASSWORD) -> str:
        return f"smtp://{user}:{password}@127.0.0.1:{self.port}"

    def inject(self, faults: Faults) -> None:
        """From the next command on, go wrong like this."""
        inject(self.folder, faults)

    def accepted(self) -> Counter[str]:
        """How often each Message-ID was accepted."""
        return accepted(self.folder)

    def __enter__(self) -> SmtpServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()


def inject(folder: Path, faults: Faults) -> None:
    """Tell the server in this folder, in whatever process, what is to go wrong."""
    fresh = folder / "faults.tmp"
    fresh.write_text(json.dumps(asdict(faults)))
    fresh.replace(folder / "faults.json")


def accepted(folder: Path) -> Counter[str]:
    """How often the server in this folder accepted each Message-ID."""
    try:
        lines = (folder / "accepted.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return Counter()
    return Counter(json.loads(line)["message_id"] for line in lines[:-1])


class _Controller(Controller):
    def __init__(self, handler: _Handler, port: int, tls: ssl.SSLContext | None, implicit: bool) -> None:
        self._starttls = None if implicit else tls
        super().__init__(
            handler,
            hostname="127.0.0.1",
            port=port,
            ssl_context=tls if implicit else None,
            ready_timeout=20,
        )

    def factory(self) -> SMTP:
        return _Server(
            self.handler,
            data_size_limit=_LIMIT,
            authenticator=_authenticate,
            auth_require_tls=self._starttls is not None,
            tls_context=self._starttls,
            require_starttls=self._starttls is not None,
            hostname="mail.test",
            ident="test",
        )


def _deliver(port: int, sender: str, recipients: list[str], content: bytes) -> list[str]:
    """Hand over by LMTP, which answers the data once per recipient; what was refused."""
    with smtplib.LMTP("127.0.0.1", port) as lmtp:
        lmtp.ehlo()
        lmtp.mail(sender)
        answers = [lmtp.rcpt(recipient) for recipient in recipients]
        taken = [answer for answer in answers if answer[0] == 250]
        if taken:
            answers += [lmtp.data(content), *(lmtp.getreply() for _ in taken[1:])]
    return [f"{code} {text!r}" for code, text in answers if code != 250]


class _Server(SMTP):
    """Cuts the connection where a handler has no say: around the 354."""

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        handler: _Handler = self.event_handler
        faults = handler.faults()
        if faults.break_at in ("data", "body") and handler.meets(faults):
            if faults.break_at == "body":
                await self.push("354 go on")
            cut(self)
            return
        await super().smtp_DATA(arg)
        if faults.kill and handler.meets(faults):
            with suppress(ProcessLookupError):
                os.kill(faults.kill, signal.SIGKILL)


def cut(server: SMTP) -> None:
    """Drop the connection without a word."""
    if isinstance(server.transport, asyncio.Transport):
        server.transport.abort()


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
) -> AuthResult:
    right = data.login == USER.encode() and data.password == PASSWORD.encode()
    return AuthResult(success=right, handled=False)


class _Handler:
    def __init__(self, folder: Path, lmtp_port: int) -> None:
        self._folder = folder
        self._lmtp_port = lmtp_port

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        faults = self.faults()
        if faults.sender and self.meets(faults):
            return faults.sender
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        faults = self.faults()
        if faults.break_at == "rcpt" and self.meets(faults):
            return self._cut(server)
        if address in faults.recipients and self.meets(faults):
            return faults.recipients[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        faults = self.faults()
        meets = bool(faults.data or faults.break_at in ("dot", "answer") or faults.delay) and self.meets(
            faults
        )
        if meets and faults.break_at == "dot":
            return self._cut(server)
        if meets and faults.data:
            return faults.data
        answer = await asyncio.to_thread(self._take, envelope)
        if meets and faults.delay:
            await asyncio.sleep(faults.delay)
        if meets and faults.break_at == "answer":
            return self._cut(server)
        return answer

    def _take(self, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        if self._lmtp_port:
            refused = _deliver(self._lmtp_port, envelope.mail_from or "", envelope.rcpt_tos, content)
            if refused:
                return f"451 4.3.0 not delivered: {refused}"
        line = json.dumps(
            {
                "message_id": str(message_from_bytes(content)["Message-ID"] or "").strip(),
                "recipients": envelope.rcpt_tos,
                "size": len(content),
                "at": time.time(),
            }
        )
        descriptor = os.open(self._folder / "accepted.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return "250 2.0.0 OK delivered"

    def faults(self) -> Faults:
        """What goes wrong now."""
        try:
            return Faults(**json.loads((self._folder / "faults.json").read_text()))
        except FileNotFoundError:
            return Faults()

    def meets(self, faults: Faults) -> bool:
        """Whether the fault still strikes; counts this one."""
        if faults.times == 0:
            return False
        if faults.times > 0:
            inject(self._folder, Faults(**(asdict(faults) | {"times": faults.times - 1})))
        return True

    @staticmethod
    def _cut(server: SMTP) -> str:
        cut(server)
        return "421 4.3.0 going away"
