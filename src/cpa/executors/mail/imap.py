"""Reading a mailbox over IMAP: the blocking half, called in threads only.

One connection per call: an IMAP connection cannot be shared between threads, and one that idles between calls
breaks unseen. Reading never marks a message as seen.
"""

from __future__ import annotations

import imaplib
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Literal, cast

from cpa.errors import BadInput, NotFound
from cpa.ports.mail import MailAttachment, MailQuery, MailRefused, MailTrouble, ReceivedMail

if TYPE_CHECKING:
    from imap_tools import BaseMailBox, MailMessage

_BULK = 50
_MAX_HTML = 1024 * 1024
_BREAK = re.compile(r"[\x00\r\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a mail server listens, and how the connection to it is protected."""

    host: str
    port: int
    user: str = ""
    tls: Literal["implicit", "starttls", "plain"] = "implicit"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class ImapMailbox:
    """One account's mailbox. Every method blocks."""

    def __init__(
        self, endpoint: Endpoint, password: Callable[[], str], *, tls: ssl.SSLContext | None, timeout: float
    ) -> None:
        self._endpoint = endpoint
        self._password = password
        self._tls = tls
        self._timeout = timeout

    def search(self, query: MailQuery) -> list[ReceivedMail]:
        """Newest first, headers only; see `MailPort.search`."""
        criteria = _criteria(query)
        found: list[ReceivedMail] = []
        with self._folder(query.folder) as box:
            for message in _heads(box, _uids(box, criteria)):
                mail = _received(message, query.folder)
                if _matches(mail, query):
                    found.append(mail)
                if len(found) >= query.limit:
                    break
        return found

    def find(self, message_ids: Sequence[str], folder: str) -> dict[str, ReceivedMail]:
        """Those that lie there, by exactly this Message-ID; headers only. One search for all, because a server may
        read every message's head for it; each by itself where the server does not understand that. Raises rather
        than call a message absent that was seen: absence may have it sent again."""
        for each in message_ids:
            _on_one_line("message_id", each)
        with self._folder(folder) as box:
            try:
                uids = _searched(box, message_ids)
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error:
                if len(message_ids) == 1:
                    raise
                uids = [uid for each in message_ids for uid in _searched(box, [each])]
            mails = [_received(message, folder) for message in _heads(box, uids)]
        if len(mails) < len(set(uids)):
            raise MailTrouble(
                "imap_failed",
                f"the IMAP server {self._endpoint} gave {len(mails)} of the {len(set(uids))} messages it found",
            )
        return {mail.message_id: mail for mail in mails if mail.message_id in message_ids}

    def read(self, uid: str, folder: str) -> ReceivedMail:
        """One whole message; see `MailPort.read`."""
        if not re.fullmatch(r"[1-9][0-9]{0,9}", uid):
            raise BadInput(
                "not the uid of a message", field="uid", value=uid, remedy="take the uid from a search result"
            )
        with self._folder(folder) as box:
            for message in box.fetch(uid_list=uid, mark_seen=False):
                return _received(message, folder, whole=True)
        raise NotFound(
            f"there is no message {uid} in the folder '{folder}'",
            field="uid",
            value=uid,
            remedy="search again: it may have been moved or deleted",
        )

    @contextmanager
    def _folder(self, folder: str) -> Iterator[BaseMailBox]:
        """An open mailbox with this folder selected; every fault comes out as `MailRefused` or
        `MailTrouble`."""
        from imap_tools.errors import (
            ImapToolsError,
            MailboxFolderSelectError,
            MailboxLoginError,
            UnexpectedCommandStatusError,
        )

        where = f"the IMAP server {self._endpoint}"
        try:
            box = self._connect()
            try:
                self._login(box)
                box.folder.set(folder, readonly=True)
                yield box
            finally:
                # The answer to LOGOUT tells nothing about what was read.
                with suppress(OSError, imaplib.IMAP4.error, ImapToolsError):
                    box.logout()
        except MailboxLoginError as error:
            raise MailRefused(
                "imap_auth_failed",
                f"{where} refused the user '{self._endpoint.user}'",
                remedy="check the user in imap_url and the secret that holds the password",
            ) from error
        except MailboxFolderSelectError as error:
            raise MailRefused(
                "folder_not_found",
                f"{where} has no folder '{folder}' for '{self._endpoint.user}'",
                remedy="check the name of the folder, in the server's own spelling",
            ) from error
        except ssl.SSLError as error:
            raise MailRefused(
                "imap_tls_failed",
                f"no protected connection to {where}: {error}",
                remedy="check the server's certificate, or whether the port expects imaps or imap",
            ) from error
        except imaplib.IMAP4.abort as error:
            raise MailTrouble("imap_broken", f"the connection to {where} broke: {error}") from error
        except OSError as error:
            raise MailTrouble("imap_unreachable", f"{where} cannot be reached: {error}") from error
        except (imaplib.IMAP4.error, UnexpectedCommandStatusError) as error:
            raise MailTrouble("imap_failed", f"{where} did not understand: {error}") from error

    def _connect(self) -> BaseMailBox:
        from imap_tools import MailBox, MailBoxStartTls, MailBoxUnencrypted

        end = self._endpoint
        if end.tls == "plain":
            return MailBoxUnencrypted(end.host, end.port, timeout=self._timeout)
        tls = self._tls or ssl.create_default_context()
        if end.tls == "starttls":
            return MailBoxStartTls(end.host, end.port, timeout=self._timeout, ssl_context=tls)
        return MailBox(end.host, end.port, timeout=self._timeout, ssl_context=tls)

    def _login(self, box: BaseMailBox) -> None:
        password = self._password()
        if password.isascii() and self._endpoint.user.isascii():
            box.login(self._endpoint.user, password, initial_folder=None)
        else:
            box.login_utf8(self._endpoint.user, password, initial_folder=None)


def _searched(box: BaseMailBox, message_ids: Sequence[str]) -> list[str]:
    """The uids of the messages with one of these in their Message-ID."""
    from imap_tools import OR, H

    return _uids(box, str(OR(header=[H("Message-ID", each) for each in message_ids])))


def _uids(box: BaseMailBox, criteria: str) -> list[str]:
    """What a search finds. A server may spread it over several answers, of which the library reads the first."""
    charset = () if criteria.isascii() else ("CHARSET", "UTF-8")
    # The driver's hints know text alone; it sends bytes as they are.
    status, answers = box.client.uid("SEARCH", *charset, cast("str", criteria.encode()))
    if status != "OK":
        raise imaplib.IMAP4.error(f"SEARCH was answered {status} {answers!r:.200}")
    return [uid for answer in answers if answer for uid in answer.decode("ascii").split()]


def _heads(box: BaseMailBox, uids: Sequence[str]) -> Iterator[MailMessage]:
    """The newest first."""
    if uids:
        yield from box.fetch(uid_list=uids, mark_seen=False, reverse=True, headers_only=True, bulk=_BULK)


def _on_one_line(field: str, value: str) -> None:
    """A line break would begin a command of its own."""
    if _BREAK.search(value):
        raise BadInput("contains a line break", field=field, remedy="search for text on one line")


def _criteria(query: MailQuery) -> str:
    from imap_tools import AND, H

    for name in ("folder", "message_id", "subject", "sender", "to", "text"):
        _on_one_line(name, getattr(query, name))
    wanted: dict[str, Any] = {}
    if query.message_id:
        wanted["header"] = H("Message-ID", query.message_id)
    if query.subject:
        wanted["subject"] = query.subject
    if query.sender:
        wanted["from_"] = query.sender
    if query.to:
        wanted["to"] = query.to
    if query.text:
        wanted["text"] = query.text
    if query.since:
        # The server compares its own local dates, to the day: ask for one more, then compare exactly.
        wanted["date_gte"] = (query.since - timedelta(days=1)).date()
    if query.unseen:
        wanted["seen"] = False
    return str(AND(**wanted)) if wanted else "ALL"


def _matches(mail: ReceivedMail, query: MailQuery) -> bool:
    if query.message_id and mail.message_id != query.message_id:
        return False
    if query.since and mail.date is not None:
        return mail.date >= (query.since if query.since.tzinfo else query.since.replace(tzinfo=UTC))
    return True


def _received(message: MailMessage, folder: str, *, whole: bool = False) -> ReceivedMail:
    attachments: tuple[MailAttachment, ...] = ()
    text = ""
    if whole:
        attachments = tuple(
            MailAttachment(
                name=each.filename or "file",
                media_type=each.content_type or "application/octet-stream",
                content=each.payload,
            )
            for each in message.attachments
        )
        text = message.text or plain_text(message.html[:_MAX_HTML])
    identity = message.obj["Message-ID"] or ""
    return ReceivedMail(
        uid=message.uid or "",
        folder=folder,
        message_id=str(identity).strip(),
        subject=message.subject,
        sender=message.from_,
        to=tuple(message.to),
        date=_date(message),
        text=text.replace("\r\n", "\n"),
        attachments=attachments,
    )


def _date(message: MailMessage) -> datetime | None:
    """When it was written, by its own account; None where the header is missing or senseless."""
    if not message.date_str or message.date.year <= 1900:
        return None
    return message.date if message.date.tzinfo else message.date.replace(tzinfo=UTC)


class _Text(HTMLParser):
    """Collects the visible text of a page, one line per block."""

    _HIDDEN = frozenset({"script", "style", "head", "title", "template"})
    _BLOCKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "h4", "table", "blockquote"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in self._HIDDEN
        if tag in self._BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self._HIDDEN and self._hidden > 0
        if tag in self._BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(re.sub(r"\s+", " ", data))


def plain_text(html: str) -> str:
    """What a person would read of an HTML mail, roughly: no markup, no scripts, blank lines folded."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    lines = (line.strip() for line in "".join(parser.parts).split("\n"))
    return re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip()
