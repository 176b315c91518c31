"""What the demo's mailbox takes, keeps and gives back, in both of its forms."""

from __future__ import annotations

import asyncio
import os
import smtplib
import subprocess
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, get_args

import pytest

from cpa.demo.mailbox import SENDER, Kind, Mailbox, maildir_name, open_mailbox
from cpa.errors import NotFound, Unavailable
from cpa.executors.mail.imap import Endpoint, ImapMailbox
from cpa.ports.mail import MailQuery, MailRefused

ATTACHMENT = bytes(range(256)) * 400
KINDS = tuple(kind for kind in get_args(Kind) if kind != "auto")
kinds = pytest.mark.parametrize("kind", KINDS)


def letter(message_id: str = "<1@cpa.example>", to: str = "billing@kunde.example") -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Rechnung für März: Größe & Übersicht"
    message["From"] = SENDER
    message["To"] = to
    message["Message-ID"] = message_id
    message.set_content("Schöne Grüße\n")
    message.add_attachment(ATTACHMENT, maintype="application", subtype="pdf", filename="Müller.pdf")
    return message


def send(mail: Mailbox, message: EmailMessage, *recipients: str, password: str | None = None) -> None:
    with smtplib.SMTP(mail.smtp.host, mail.smtp.port, timeout=20) as client:
        client.login(mail.smtp.user, mail.smtp.password if password is None else password)
        client.send_message(message, to_addrs=list(recipients) or None)


@kinds
async def test_a_message_arrives_whole_and_only_where_it_was_sent(tmp_path: Path, kind: Kind) -> None:
    async with open_mailbox(tmp_path, kind=kind) as mail:
        await asyncio.to_thread(send, mail, letter(), "billing@kunde.example", "zwei@kunde.example")
        found = await mail.messages("billing@kunde.example", "<1@cpa.example>")
        copies = await mail.messages("zwei@kunde.example")
        others = await mail.messages("drei@kunde.example")

    message = message_from_bytes(found[0], policy=policy.default)
    part = next(message.iter_attachments())
    assert (len(found), len(copies), len(others)) == (1, 1, 0)
    assert message["Subject"] == "Rechnung für März: Größe & Übersicht"
    assert part.get_filename() == "Müller.pdf"
    assert part.get_payload(decode=True) == ATTACHMENT


@kinds
async def test_messages_come_oldest_first_and_by_message_id(tmp_path: Path, kind: Kind) -> None:
    async with open_mailbox(tmp_path, kind=kind) as mail:
        for number in range(3):
            await asyncio.to_thread(send, mail, letter(f"<{number}@cpa.example>"))
        everything = await mail.messages("billing@kunde.example")
        one = await mail.messages("billing@kunde.example", "<1@cpa.example>")
        none = await mail.messages("billing@kunde.example", "<7@cpa.example>")

    ids = [message_from_bytes(message)["Message-ID"] for message in everything]
    assert ids == ["<0@cpa.example>", "<1@cpa.example>", "<2@cpa.example>"]
    assert [message_from_bytes(message)["Message-ID"] for message in one] == ["<1@cpa.example>"]
    assert none == []


@kinds
async def test_a_wrong_password_is_refused_and_nothing_is_taken(tmp_path: Path, kind: Kind) -> None:
    async with open_mailbox(tmp_path, kind=kind) as mail:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            await asyncio.to_thread(send, mail, letter(), password="falsch")
        assert await mail.messages("billing@kunde.example") == []


@kinds
async def test_sending_without_signing_in_is_refused(tmp_path: Path, kind: Kind) -> None:
    def send_unsigned(mail: Mailbox) -> None:
        with smtplib.SMTP(mail.smtp.host, mail.smtp.port, timeout=20) as client:
            client.send_message(letter())

    async with open_mailbox(tmp_path, kind=kind) as mail:
        with pytest.raises(smtplib.SMTPSenderRefused):
            await asyncio.to_thread(send_unsigned, mail)
        assert await mail.messages("billing@kunde.example") == []


@kinds
async def test_the_messages_are_still_there_when_the_servers_are_gone(tmp_path: Path, kind: Kind) -> None:
    async with open_mailbox(tmp_path, kind=kind) as mail:
        await asyncio.to_thread(send, mail, letter())

    left = list((tmp_path / "mail" / "billing@kunde.example").glob("*/*,*")) or list(
        (tmp_path / "mail" / "billing@kunde.example" / "new").iterdir()
    )
    assert len(left) == 1
    assert message_from_bytes(left[0].read_bytes())["Message-ID"] == "<1@cpa.example>"


def test_an_address_cannot_leave_the_mail_folder() -> None:
    assert maildir_name("../../Etc/pässe@kunde.example") == "..=2F..=2Fetc=2Fp=C3=A4sse@kunde.example"


async def test_without_dovecot_the_embedded_server_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpa.demo.mailbox.find_dovecot", lambda: None)
    async with open_mailbox(tmp_path) as mail:
        assert "embedded" in mail.title
    with pytest.raises(Unavailable, match="dovecot-imapd"):
        async with open_mailbox(tmp_path, kind="dovecot"):
            pass


HOLDER = """
import asyncio, os, sys
from pathlib import Path
from cpa.demo.mailbox import open_mailbox
async def main():
    async with open_mailbox(Path(sys.argv[1]), kind="dovecot") as mail:
        print(mail.folder.parent, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def processes_of(folder: str) -> list[str]:
    """Command lines of the processes that name this folder, and of Dovecot's children of those."""
    lines = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in lines.splitlines() if folder in line]


async def test_dovecot_ends_with_its_owner_even_when_that_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert owner.stdout is not None
    with owner:
        folder = owner.stdout.readline().strip()
        assert processes_of(folder) != []
        owner.kill()
    async with asyncio.timeout(15):
        while processes_of(folder):
            await asyncio.sleep(0.05)


@kinds
async def test_the_sender_may_look_for_what_came_by_imap(tmp_path: Path, kind: Kind) -> None:
    def searched(mail: Mailbox, **query: Any) -> list[str]:
        return [each.message_id for each in reader(mail).search(MailQuery(**query))]

    async with open_mailbox(tmp_path, kind=kind) as mail:
        await asyncio.to_thread(send, mail, letter("<1@cpa.example>"), SENDER)
        await asyncio.to_thread(send, mail, letter("<2@cpa.example>", "b@kunde.example"), SENDER)
        found = {
            name: await asyncio.to_thread(searched, mail, **query)
            for name, query in {
                "all": {},
                "id": {"message_id": "<2@cpa.example>"},
                "subject": {"subject": "märz", "to": "billing@"},
                "text": {"text": "Schöne"},
                "nothing": {"message_id": "<3@cpa.example>"},
            }.items()
        }
        whole = await asyncio.to_thread(reader(mail).read, "1", "INBOX")
        with pytest.raises(NotFound):
            await asyncio.to_thread(reader(mail).read, "9", "INBOX")
        with pytest.raises(MailRefused, match="no folder"):
            await asyncio.to_thread(reader(mail).read, "1", "Archiv")
        with pytest.raises(MailRefused, match="refused the user"):
            await asyncio.to_thread(reader(mail, "falsch").read, "1", "INBOX")

    both = ["<2@cpa.example>", "<1@cpa.example>"]
    assert found == {
        "all": both,
        "id": both[:1],
        "subject": both[1:],
        "text": both,
        "nothing": [],
    }
    assert whole.attachments[0].content == ATTACHMENT


def reader(mail: Mailbox, password: str | None = None) -> ImapMailbox:
    imap = mail.imap
    endpoint = Endpoint(tls="plain", host=imap.host, port=imap.port, user=imap.user)
    known = imap.password if password is None else password
    return ImapMailbox(endpoint, lambda: known, tls=None, timeout=20)
