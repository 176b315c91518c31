"""The demo's IMAP server: somebody may look into a mailbox also where there is no Dovecot.

As much of IMAP4rev1 (RFC 3501) as looking for messages takes: LOGIN, EXAMINE, UID SEARCH, UID FETCH; nothing can be
changed. One folder, INBOX; a message's uid is its place in it. Loopback only, hence without TLS.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.message import EmailMessage

from cpa.demo.serving import bind

Messages = Callable[[str], Sequence[bytes]]
"""The messages of an address, oldest first."""

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s()"]+)')
_HEADERS = {"SUBJECT": "Subject", "FROM": "From", "TO": "To"}


class _NotUnderstoodError(Exception):
    """The command is not one of ours; the text goes to the client after BAD."""


@asynccontextmanager
async def serve_imap(password: str, messages: Messages, *, port: int = 0) -> AsyncIterator[int]:
    """Listen while the block runs; gives the port. Every address may log in with this password.

    Port 0 takes a free one, `Unavailable` when the port is taken.
    """
    talking: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.add(writer)
        try:
            with suppress(ConnectionError, ValueError):  # Gone, or a line beyond all measure.
                await _Conversation(reader, writer, password, messages).hold()
        finally:
            talking.discard(writer)
            writer.close()

    bound = bind(port, "mailbox")
    found: int = bound.getsockname()[1]
    server = await asyncio.start_server(talk, sock=bound)
    try:
        yield found
    finally:
        server.close()
        for writer in talking:
            writer.close()
        await server.wait_closed()


class _Conversation:
    """One client."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, password: str, messages: Messages
    ) -> None:
        self._reader, self._writer = reader, writer
        self._password, self._messages = password, messages
        self._user = ""
        self._folder: Sequence[bytes] = ()

    async def hold(self) -> None:
        """Until the client leaves."""
        self._say(b"* OK IMAP4rev1 demo mailbox")
        while line := await self._reader.readline():
            tag, _, command = line.decode("utf-8", "replace").strip().partition(" ")
            words = [
                _unquoted(found[1]) if found[0][0] == '"' else found[0] for found in _WORD.finditer(command)
            ]
            try:
                end = await self._answer(words)
            except _NotUnderstoodError as error:
                end = f"BAD {error}"
            self._say(f"{tag} {end}".encode())
            await self._writer.drain()
            if words and words[0].upper() == "LOGOUT":
                return

    async def _answer(self, words: list[str]) -> str:
        """Says what the command asks for; the status that ends it."""
        match [words[0].upper() if words else "", *words[1:]]:
            case ["CAPABILITY"]:
                self._say(b"* CAPABILITY IMAP4rev1")
            case ["NOOP"]:
                pass
            case ["LOGOUT"]:
                self._say(b"* BYE")
            case ["LOGIN", user, password]:
                if not secrets.compare_digest(password.encode(), self._password.encode()):
                    return "NO user or password is wrong"
                self._user = user
            case ["EXAMINE" | "SELECT", folder] if self._user:
                if folder.upper() != "INBOX":
                    return "NO there is only INBOX"
                self._folder = await asyncio.to_thread(self._messages, self._user)
                self._say(
                    f"* {len(self._folder)} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] fixed".encode()
                )
                return "OK [READ-ONLY] selected"
            case ["UID", verb, *rest] if self._user and verb.upper() == "SEARCH":
                found = " ".join(str(number) for number in self._search(rest))
                self._say(f"* SEARCH {found}".strip().encode())
            case ["UID", verb, numbers, *items] if self._user and verb.upper() == "FETCH":
                self._fetch(numbers, "BODY.PEEK[HEADER]" in items)
            case _:
                raise _NotUnderstoodError("not understood, or not logged in")
        return "OK done"

    def _search(self, words: list[str]) -> Iterator[int]:
        if words[:1] and words[0].upper() == "CHARSET":
            words = words[2:]
        for number, content in enumerate(self._folder, 1):
            if _fits(email.message_from_bytes(content, policy=email.policy.default), iter(words)):
                yield number

    def _fetch(self, numbers: str, only_headers: bool) -> None:
        parts = numbers.split(",")
        if not all(part.isdecimal() and len(part) < 10 for part in parts):
            raise _NotUnderstoodError("uids are numbers with commas")
        # A set has no order: answers come in that of the folder.
        for number in sorted({int(part) for part in parts} & set(range(1, len(self._folder) + 1))):
            whole = self._folder[number - 1].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            head, gap, _ = whole.partition(b"\r\n\r\n")
            sent, section = (head + gap, "HEADER") if only_headers else (whole, "")
            about = f"* {number} FETCH (UID {number} FLAGS () RFC822.SIZE {len(whole)}"
            about += f" BODY[{section}] {{{len(sent)}}}"
            self._say(about.encode() + b"\r\n" + sent + b")")

    def _say(self, line: bytes) -> None:
        self._writer.write(line + b"\r\n")


def _fits(message: EmailMessage, words: Iterator[str]) -> bool:
    """Whether a message is all that a search asks for."""
    for word in words:
        match word.upper():
            case "ALL" | "UNSEEN":
                fits = True
            case "HEADER":
                fits = _holds(message.get_all(next(words, ""), []), next(words, ""))
            case "SUBJECT" | "FROM" | "TO" as name:
                fits = _holds(message.get_all(_HEADERS[name], []), next(words, ""))
            case "TEXT":
                body = message.get_body(("plain", "html"))
                texts = [*message.values(), body.get_content() if body is not None else ""]
                fits = _holds(texts, next(words, ""))
            case "SINCE":
                since = datetime.strptime(next(words, ""), "%d-%b-%Y").replace(tzinfo=UTC).date()
                date = message["Date"]
                fits = date is not None and date.datetime.date() >= since
            case other:
                raise _NotUnderstoodError(f"cannot search by {other}")
        if not fits:
            return False
    return True


def _holds(texts: Sequence[object], part: str) -> bool:
    return any(part.casefold() in str(text).casefold() for text in texts)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
