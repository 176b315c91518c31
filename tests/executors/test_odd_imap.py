"""IMAP servers with ways of their own: what is there is never called absent, for absence has a mail sent again."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

import pytest

from cpa.executors.mail.smtp import MailAccount, SmtpImapMail
from cpa.ports.mail import MailTrouble, ReceivedMail


class OddImap:
    """An IMAP server in a thread that has mails with these Message-IDs, and ways of its own."""

    def __init__(self, how: str, there: Sequence[str]) -> None:
        self._how, self._there = how, there
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with suppress(OSError), connection, connection.makefile("rb") as lines:
                connection.sendall(b"* OK hello\r\n")
                for line in lines:
                    tag, command = line.split(b" ", 1)
                    connection.sendall(self._answer(command) + tag + self._status(command))

    def _status(self, command: bytes) -> bytes:
        refused = self._how == "no or" and command.startswith(b"UID SEARCH") and b"OR " in command
        return b" NO too complicated\r\n" if refused else b" OK done\r\n"

    def _answer(self, command: bytes) -> bytes:
        if command.startswith(b"CAPABILITY"):
            return b"* CAPABILITY IMAP4rev1\r\n"
        if command.startswith(b"EXAMINE"):
            return b"* %d EXISTS\r\n" % len(self._there)
        if command.startswith(b"UID SEARCH"):
            hits = [number for number, each in enumerate(self._there, 1) if each.encode() in command]
            if self._how == "lines":
                return b"* SEARCH\r\n" + b"".join(b"* SEARCH %d\r\n" % hit for hit in hits)
            return b"* SEARCH " + b" ".join(b"%d" % hit for hit in hits) + b"\r\n"
        if command.startswith(b"UID FETCH"):
            uids = [int(uid) for uid in command.split(b" ")[2].split(b",")]
            return b"".join(map(self._head, uids[self._how == "gone" :]))
        return b""

    def _head(self, uid: int) -> bytes:
        head = b"Message-ID: %s\r\nSubject: x\r\n\r\n" % self._there[uid - 1].encode()
        return b"* %d FETCH (BODY[HEADER] {%d}\r\n%s UID %d FLAGS () RFC822.SIZE 55)\r\n" % (
            uid,
            len(head),
            head,
            uid,
        )


@pytest.mark.parametrize("how", ["plain", "lines", "no or", "gone"])
async def test_no_mail_that_is_there_is_called_absent_whatever_the_server_s_ways(how: str) -> None:
    there = [f"<cpa.{number:032x}@firma.example>" for number in range(45)]
    server = OddImap(how, there)
    url = f"imap://u:p@127.0.0.1:{server.port}"
    port = SmtpImapMail(
        MailAccount(smtp_url="smtp://127.0.0.1:1", sender="a@firma.example", imap_url=url, timeout=10)
    )
    found = await asyncio.gather(*map(port.find, there), return_exceptions=True)
    await port.close()
    server.close()
    if how == "gone":
        assert [type(each) for each in found] == [MailTrouble] * 45
    else:
        assert [each.message_id for each in found if isinstance(each, ReceivedMail)] == there
