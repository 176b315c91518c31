"""The demo's mailbox: an SMTP server with a password, and a way to see what arrived.

Two forms behind one interface. Where Debian's Dovecot is installed and we are root, it keeps the mail and
that is read back by IMAP. Elsewhere the SMTP server itself writes a Maildir for each recipient, and a small IMAP
server shows it. In both, the messages lie in `<folder>/mail/<address>` when all is over.
"""

from __future__ import annotations

import asyncio
import imaplib
import mailbox
import re
import secrets
import shutil
import smtplib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from cpa.demo.dovecot import Dovecot, find_dovecot, run_dovecot
from cpa.demo.imapd import serve_imap
from cpa.demo.smtpd import Account, DeliveryRefusedError, serve_smtp
from cpa.errors import Unavailable

SENDER = "automation@cpa.example"
"""The account that sends; with Dovecot it can also be read."""

Kind = Literal["auto", "dovecot", "embedded"]


class Mailbox(ABC):
    """Where the demo's mail goes."""

    title: str
    """What it is, for people."""

    def __init__(self, smtp: Account, imap: Account, folder: Path) -> None:
        self.smtp, self.imap, self.folder = smtp, imap, folder

    @abstractmethod
    async def messages(self, recipient: str, message_id: str = "") -> list[bytes]:
        """What `recipient` has received, oldest first, as bytes; only that Message-ID's if one is given."""


@asynccontextmanager
async def open_mailbox(
    folder: Path, *, kind: Kind = "auto", password: str = "", smtp_port: int = 0, imap_port: int = 0
) -> AsyncIterator[Mailbox]:
    """The mailbox of this kind while the block runs; `auto` takes Dovecot where it can be used.

    One password, drawn if none is given, opens the SMTP server and, with Dovecot, every mailbox. Raises
    `Unavailable` when Dovecot is asked for and cannot be used, and when a port is taken.
    """
    program = None if kind == "embedded" else find_dovecot()
    if kind == "dovecot" and program is None:
        raise Unavailable(
            "Dovecot cannot be used here",
            field="mail",
            value=kind,
            remedy="Install dovecot-imapd and dovecot-lmtpd and run as root, or choose `embedded`.",
        )
    (folder / "mail").mkdir(parents=True, exist_ok=True)
    access = password or secrets.token_urlsafe(16)
    if program is None:
        opened = _open_embedded(folder, access, smtp_port, imap_port)
    else:
        opened = _open_dovecot(folder, program, access, smtp_port, imap_port)
    async with opened as mail:
        yield mail


def maildir_name(address: str) -> str:
    """The folder of an address: lower case, nothing that means something to a file system."""
    return quote(address.lower(), safe="@+-_").replace("%", "=")


class _MaildirMailbox(Mailbox):
    title = "embedded SMTP server with AUTH, writing a Maildir; embedded IMAP server"

    async def messages(self, recipient: str, message_id: str = "") -> list[bytes]:
        return await asyncio.to_thread(_read, self.folder, recipient, message_id)


def _read(folder: Path, recipient: str, message_id: str = "") -> list[bytes]:
    place = folder / maildir_name(recipient)
    if not place.is_dir():
        return []
    box = mailbox.Maildir(place)
    return [
        box.get_bytes(key)
        for key in sorted(box.keys(), key=_delivered)
        if not message_id or box.get_message(key)["Message-ID"] == message_id
    ]


def _delivered(key: str) -> tuple[int, ...]:
    """When a message came, as Python writes it into the name: `<second>.M<microsecond>P<process>Q<count>`."""
    parts = re.match(r"(\d+)\.M(\d+)P\d+Q(\d+)", key)
    return tuple(int(part) for part in parts.groups()) if parts else ()


@asynccontextmanager
async def _open_embedded(
    folder: Path, password: str, smtp_port: int, imap_port: int
) -> AsyncIterator[Mailbox]:
    place = folder / "mail"

    def store(recipients: Sequence[str], message: bytes) -> None:
        for recipient in recipients:
            mailbox.Maildir(place / maildir_name(recipient)).add(message)

    async def deliver(_sender: str, recipients: Sequence[str], message: bytes) -> None:
        await asyncio.to_thread(store, recipients, message)

    async with (
        serve_imap(password, lambda user: _read(place, user), port=imap_port) as port,
        serve_smtp(SENDER, password, deliver, port=smtp_port) as smtp,
    ):
        imap = Account(host=smtp.host, port=port, user=SENDER, password=password)
        yield _MaildirMailbox(smtp, imap, place)


class _DovecotMailbox(Mailbox):
    title = "SMTP with AUTH in front of Dovecot, read back by IMAP"

    async def messages(self, recipient: str, message_id: str = "") -> list[bytes]:
        return await asyncio.to_thread(self._read, recipient, message_id)

    def _read(self, recipient: str, message_id: str) -> list[bytes]:
        with imaplib.IMAP4(self.imap.host, self.imap.port, timeout=10) as client:
            client.login(recipient, self.imap.password)
            client.select("INBOX", readonly=True)
            wanted = ("HEADER", "Message-ID", f'"{message_id}"') if message_id else ("ALL",)
            _, numbers = client.search(None, *wanted)
            found = []
            for number in numbers[0].split():
                _, parts = client.fetch(number.decode("ascii"), "(BODY.PEEK[])")
                found += [part[1] for part in parts if isinstance(part, tuple)]
        return found


@asynccontextmanager
async def _open_dovecot(
    folder: Path, program: str, password: str, smtp_port: int, imap_port: int
) -> AsyncIterator[Mailbox]:
    async with run_dovecot(program, password, port=imap_port) as server:

        async def deliver(sender: str, recipients: Sequence[str], message: bytes) -> None:
            await asyncio.to_thread(_hand_over, server, sender, recipients, message)

        imap = Account(host=server.host, port=server.port, user=SENDER, password=server.password)
        try:
            async with serve_smtp(SENDER, password, deliver, port=smtp_port) as smtp:
                yield _DovecotMailbox(smtp, imap, server.mail)
        finally:
            await asyncio.to_thread(shutil.copytree, server.mail, folder / "mail", dirs_exist_ok=True)


def _hand_over(server: Dovecot, sender: str, recipients: Sequence[str], message: bytes) -> None:
    """Give a message to Dovecot by LMTP, once per recipient: an LMTP server answers a message with one line
    for each of them, which smtplib does not expect."""
    with smtplib.LMTP(server.lmtp) as client:
        for recipient in recipients:
            try:
                client.sendmail(sender, [recipient], message)
            except smtplib.SMTPRecipientsRefused as error:
                raise DeliveryRefusedError(f"{recipient} is refused") from error
