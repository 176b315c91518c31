"""The world the scheduler acts on: mail servers, a web service, a portal, each a process of its own.

They outlive every kill, and they count: what they saw is the truth that the scheduler's own store is held against.
"""

from __future__ import annotations

import imaplib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from tests.e2e.kill import counter
from tests.servers import smtp
from tests.servers.dovecot import PASSWORD
from tests.servers.scheduler import clean_environment

ROOT = Path(__file__).parents[3]
SENDER = "cpa@firma.example"
PORTAL_PASSWORD = "Grün-und-sicher-7"
_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^>]*>)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class World:
    """Where everything is, and what it counted."""

    smtp_port: int
    smtp_folder: Path
    imap_port: int
    counter_port: int
    counter_folder: Path
    portal_port: int

    @property
    def orders_url(self) -> str:
        return f"http://127.0.0.1:{self.counter_port}/orders"

    @property
    def environment(self) -> dict[str, str]:
        """What tells a scheduler of this world. Nothing here delivers late, so absence soon counts."""
        private = [f"127.0.0.1:{port}" for port in (self.counter_port, self.portal_port)]
        return {
            "CPA_SMTP_URL": f"smtp://{smtp.USER}:{smtp.PASSWORD}@127.0.0.1:{self.smtp_port}",
            "CPA_IMAP_URL": f"imap://{SENDER.replace('@', '%40')}:{PASSWORD}@127.0.0.1:{self.imap_port}",
            "CPA_MAIL_FROM": SENDER,
            "CPA_MAIL_SETTLE": "2",
            "CPA_ALLOW_PRIVATE": json.dumps(private),
            "CPA_SECRET_PORTAL_PASSWORD": PORTAL_PASSWORD,
        }

    def write_workspace(self, folder: Path) -> None:
        values = {"portal": {"url": f"http://127.0.0.1:{self.portal_port}", "user": "demo"}}
        (folder / "cpa.yaml").write_text(json.dumps({"version": 1, "values": values}), "utf-8")

    def pace(self, total: int) -> None:
        """Let the web service take orders until it has so many."""
        url = f"http://127.0.0.1:{self.counter_port}/pace"
        httpx2.post(url, json={"total": total}, trust_env=False, timeout=20).raise_for_status()

    def kill_after_mail(self, process: int) -> None:
        """SIGKILL to this process right after the next 250 to a message has left."""
        smtp.inject(self.smtp_folder, smtp.Faults(kill=process, times=1))

    def spare(self) -> None:
        smtp.inject(self.smtp_folder, smtp.Faults())

    def accepted(self) -> Counter[str]:
        """How often the mail server took each Message-ID."""
        return smtp.accepted(self.smtp_folder)

    def orders(self) -> Counter[tuple[str, str]]:
        """How often the web service took each (serial, key)."""
        return counter.taken(self.counter_folder)

    def delivered(self, recipient: str) -> Counter[str]:
        """How often each Message-ID lies in this mailbox."""
        with imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=20) as mailbox:
            mailbox.login(recipient, PASSWORD)
            mailbox.select("INBOX", readonly=True)
            _, numbers = mailbox.search(None, "ALL")
            if not numbers[0]:
                return Counter()
            _, parts = mailbox.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
        heads = [part[1] for part in parts if isinstance(part, tuple)]
        return Counter(found[1].decode() for head in heads if (found := _MESSAGE_ID.search(head)))


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    """Start all servers, end them with the block. `folder` must be open to other users, for Dovecot's sake."""
    with ExitStack() as stack:
        mail = stack.enter_context(_program("tests.servers.mail", str(folder / "mail")))
        counting = folder / "orders"
        counting.mkdir()
        orders = stack.enter_context(_program("tests.e2e.kill.counter", str(counting)))
        portal = stack.enter_context(_program("tests.e2e.kill.portal", PORTAL_PASSWORD))
        yield World(
            smtp_port=mail["smtp"],
            smtp_folder=Path(mail["folder"]),
            imap_port=mail["imap"],
            counter_port=orders["port"],
            counter_folder=counting,
            portal_port=portal["port"],
        )


@contextmanager
def _program(module: str, argument: str) -> Iterator[dict[str, Any]]:
    """A server that says where it is in one line and ends with its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, argument],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{module} ended with {process.wait(20)} before it was ready")
            yield json.loads(line)
        finally:
            process.terminate()
