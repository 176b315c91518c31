"""Sending and reading mail, whatever carries it (SMTP and IMAP now, Microsoft Graph later)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class MailAttachment:
    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMail:
    """A message as found in a mailbox."""

    uid: str
    folder: str
    message_id: str
    subject: str
    sender: str
    to: tuple[str, ...]
    date: datetime | None
    text: str
    attachments: tuple[MailAttachment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MailQuery:
    """What to look for; empty fields match everything. Text compares without case."""

    folder: str = "INBOX"
    message_id: str = ""
    subject: str = ""
    sender: str = ""
    to: str = ""
    text: str = ""
    since: datetime | None = None
    unseen: bool = False
    limit: int = 50


class MailRefused(Exception):
    """The server said no for good (5xx, wrong credentials, unknown recipient): asking again will not help."""

    def __init__(self, code: str, message: str, *, remedy: str = "", recipients: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code, self.remedy, self.recipients = code, remedy, tuple(recipients)


class MailTrouble(Exception):
    """A fault on the way. `sent_unknown` is True when the data was handed over and no answer came back."""

    def __init__(self, code: str, message: str, *, sent_unknown: bool = False) -> None:
        super().__init__(message)
        self.code, self.sent_unknown = code, sent_unknown


class MailPort(Protocol):
    """One account of one tenant.

    `send` returns only after the server took responsibility (250 to the data); before that `MailRefused` or
    `MailTrouble`. All recipients or none: if the server refuses one, nothing is sent to the others.
    """

    async def send(self, message: EmailMessage, *, sender: str, recipients: Sequence[str]) -> str:
        """The server's answer line."""
        ...

    async def search(self, query: MailQuery) -> list[ReceivedMail]:
        """Newest first, without attachment content."""
        ...

    async def read(self, uid: str, *, folder: str = "INBOX") -> ReceivedMail:
        """One message with its attachments; `NotFound` if it is gone."""
        ...

    @property
    def can_prove_absence(self) -> bool:
        """Whether a search looks where the mail transaction itself puts a message (architecture, section 5)."""
        ...

    async def close(self) -> None: ...
