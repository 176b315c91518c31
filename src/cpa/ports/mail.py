"""Sending and reading mail, whatever carries it (SMTP and IMAP now, Microsoft Graph later)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """A fault on the way. `sent_unknown` is True when the data was handed over and no answer came back,
    `not_ready` when nothing was, because the server has no room for us just now: it is asked again later, however
    often that takes."""

    def __init__(
        self, code: str, message: str, *, sent_unknown: bool = False, not_ready: bool = False
    ) -> None:
        super().__init__(message)
        self.code, self.sent_unknown, self.not_ready = code, sent_unknown, not_ready


class MailPort(Protocol):
    """One account of one tenant.

    `send` returns only after the server took responsibility (250 to the data); before that `MailRefused` or
    `MailTrouble`. All recipients or none: if the server refuses one, nothing is sent to the others. All that ask a
    server raise `NameNotResolved` where nobody answers for its name.
    """

    async def send(self, message: EmailMessage, *, sender: str, recipients: Sequence[str]) -> str:
        """The server's answer line."""
        ...

    async def search(self, query: MailQuery) -> list[ReceivedMail]:
        """Newest first, without text and attachments. `MailRefused` for a folder that does not exist or
        refused credentials, `MailTrouble` when the server cannot be reached."""
        ...

    async def read(self, uid: str, *, folder: str = "INBOX") -> ReceivedMail:
        """One message with its text and attachments; stays unseen. `NotFound` if it is gone; else as
        `search`."""
        ...

    @property
    def sender(self) -> str:
        """The address outgoing mail carries in From, with or without a display name."""
        ...

    @property
    def can_prove_absence(self) -> bool:
        """Whether there is a place to look where the mail transaction itself puts a message (architecture,
        section 5). False makes `mail.send` from this account unsafe."""
        ...

    @property
    def proof_copy(self) -> str:
        """The address that must be among the recipients of every message so that it can be proved (a blind
        copy to the sending account); empty when none is needed or nothing can be proved."""
        ...

    def proves(self, recipients: Sequence[str]) -> bool:
        """Whether `find` would see a message sent to these recipients (and to `proof_copy`)."""
        ...

    async def find(self, message_id: str) -> ReceivedMail | None:
        """Look in the proof place for the message with exactly this Message-ID. Absence here is no proof
        before the settle time has passed: the server may still be delivering. Raises as `search`."""
        ...

    async def close(self) -> None: ...
