"""SMTP and IMAP behind `ports.mail`.

Theory. The only moment that matters in an SMTP transaction is the final dot of DATA. Before it has left this
process the server cannot have accepted the message: every break is plain trouble, and sending again is
safe. Once it has left, only the server's answer tells: 250 means it took responsibility, 4xx and 5xx mean
it did not, and a break means nobody knows (`sent_unknown`). So the dot is written apart from the rest.

A server that closes (421) or has no room for one more of us (432) before it was given the message is a place
that is not ready: it is asked again later, and no attempt is burnt.

All recipients or none: RCPT is asked for each first; one refusal resets the transaction.

Protection. Credentials travel over TLS only. On loopback alone the connection may be plain, for there is
no wire.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from asyncio import StreamWriter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import parseaddr
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, TypeVar, cast
from urllib.parse import unquote, urlsplit

from cpa.errors import BadInput
from cpa.executors.mail.imap import Endpoint, ImapMailbox
from cpa.executors.mail.looks import Looks
from cpa.executors.mail.message import POLICY
from cpa.executors.mail.room import Room
from cpa.ports.addresses import LookUp
from cpa.ports.mail import MailQuery, MailRefused, MailTrouble, ReceivedMail

if TYPE_CHECKING:
    from aiosmtplib import SMTP

T = TypeVar("T")

_PORTS = {"smtp": 587, "smtps": 465, "imap": 143, "imaps": 993}
_CHUNK = 64 * 1024
_READERS = 4
_SENDERS = 3
"""Connections at a time that hand messages over: what Exchange Online allows one mailbox, others rarely less."""
_NOT_READY = frozenset((421, 432))
_GOODBYE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MailAccount:
    """How one account sends and reads.

    `proof` names where a sent message can be found again because the mail transaction put it there:
    `sender`: every message gets a blind copy to `copy_to` (default: the sender's address), looked for in this
    account's own `proof_folder`; `recipient`: `imap_url` opens the mailbox of `copy_to`, and only messages
    to that address are proved; `none`: nothing is, and sending is unsafe. Without `imap_url` it is always
    `none`.
    """

    smtp_url: str
    """`smtp[s]://[user[:password]@]host[:port]`; `smtp` means STARTTLS except on loopback."""
    sender: str
    """The From address, with or without a display name."""
    imap_url: str = ""
    """`imap[s]://user[:password]@host[:port]`; `imap` means STARTTLS except on loopback."""
    password: Callable[[], str] | None = None
    """Gives the password when a connection is made, for each URL that names a user but no password."""
    proof: Literal["sender", "recipient", "none"] = "sender"
    proof_folder: str = "INBOX"
    copy_to: str = ""
    timeout: float = 30.0
    """Seconds for each step of the conversation."""
    starttls: bool | None = None
    """Whether `smtp` and `imap` demand STARTTLS; None demands it except on loopback."""
    tls: ssl.SSLContext | None = None
    """Which certificates are trusted; None takes the system's."""


async def _not_asked(host: str) -> Sequence[str]:
    return ()


class SmtpImapMail:
    """A `MailPort` on one `MailAccount`. Owns its reader threads; `close` ends them.

    `look_up` is asked for a server's name before it is connected to: what connects looks it up once more, in
    threads that are few and would wait as long as nobody answers.
    """

    def __init__(self, account: MailAccount, *, look_up: LookUp = _not_asked) -> None:
        self._look_up = look_up
        self._account = account
        self._smtp, smtp_password = parse_endpoint(account.smtp_url, "smtp", account.starttls)
        self._password = _secret_of(account, smtp_password)
        self._proved = account.copy_to
        self._imap: Endpoint | None = None
        self._mailbox: ImapMailbox | None = None
        self._own = parseaddr(account.sender)[1]
        if "@" not in self._own:
            raise BadInput(
                "the sender is no mail address",
                field="mail_from",
                value=account.sender,
                remedy="set mail_from, for example to CPA <cpa@firma.example>",
            )
        if account.imap_url:
            endpoint, imap_password = parse_endpoint(account.imap_url, "imap", account.starttls)
            self._proved = account.copy_to or endpoint.user
            self._imap = endpoint
            self._mailbox = ImapMailbox(
                endpoint,
                _secret_of(account, imap_password),
                tls=account.tls,
                timeout=account.timeout,
            )
        self._threads = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="imap")
        self._looks = Looks(self._look)
        self._room = Room(_SENDERS)

    @property
    def sender(self) -> str:
        return self._account.sender

    @property
    def can_prove_absence(self) -> bool:
        return self._mailbox is not None and self._account.proof != "none"

    @property
    def proof_copy(self) -> str:
        if not self.can_prove_absence or self._account.proof != "sender":
            return ""
        return self._account.copy_to or self._own

    def proves(self, recipients: Sequence[str]) -> bool:
        if not self.can_prove_absence:
            return False
        wanted = self._proved.lower()
        return self._account.proof == "sender" or wanted in {each.lower() for each in recipients}

    async def send(self, message: EmailMessage, *, sender: str, recipients: Sequence[str]) -> str:
        payload = await asyncio.to_thread(message.as_bytes, policy=POLICY)
        async with self._room.slot():
            client = self._client()
            try:
                await self._open(client)
                await self._envelope(client, sender, recipients, len(payload))
                answer = await self._data(client, payload)
            finally:
                client.close()
        return answer

    async def search(self, query: MailQuery) -> list[ReceivedMail]:
        return await self._in_thread(self._reading().search, query)

    async def read(self, uid: str, *, folder: str = "INBOX") -> ReceivedMail:
        return await self._in_thread(self._reading().read, uid, folder)

    async def find(self, message_id: str) -> ReceivedMail | None:
        return await self._looks.find(message_id)

    async def close(self) -> None:
        """Let running reads end (each is bounded by the timeout), then drop the threads."""
        await self._looks.close()
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def _look(self, message_ids: Sequence[str]) -> dict[str, ReceivedMail]:
        return await self._in_thread(self._reading().find, message_ids, self._account.proof_folder)

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        """In one of the threads that may wait long for the mailbox; sending does not queue behind them."""
        if self._imap is not None:
            with suppress(OSError, UnicodeError):  # Who connects says what that means.
                await self._look_up(self._imap.host)
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args))

    def _reading(self) -> ImapMailbox:
        if self._mailbox is None:
            raise MailRefused(
                "no_mailbox",
                f"no mailbox is configured for {self._own}",
                remedy="set imap_url, for example to imaps://user@mail.firma.example",
            )
        return self._mailbox

    def _client(self) -> SMTP:
        from aiosmtplib import SMTP

        return SMTP(
            hostname=self._smtp.host,
            port=self._smtp.port,
            use_tls=self._smtp.tls == "implicit",
            start_tls=self._smtp.tls == "starttls",
            tls_context=self._account.tls,
            timeout=self._account.timeout,
            local_hostname=_own_name(),
        )

    async def _open(self, client: SMTP) -> None:
        """Connect and log in. Nothing of the message has left yet: a fault here is never in doubt."""
        from aiosmtplib import SMTPAuthenticationError, SMTPException, SMTPResponseException

        where = f"the SMTP server {self._smtp}"
        try:
            await self._look_up(self._smtp.host)
            await client.connect()
            if self._smtp.user:
                await client.login(self._smtp.user, self._password())
        except SMTPAuthenticationError as error:
            if error.code < 500:
                raise _trouble(error.code, f"{where} could not check the password") from error
            raise MailRefused(
                "smtp_auth_failed",
                f"{where} refused the user '{self._smtp.user}' ({error.code})",
                remedy="check the user in smtp_url and the secret that holds the password",
            ) from error
        except SMTPResponseException as error:
            raise _answered(where, "the connection", error.code, error.message) from error
        except (OSError, SMTPException) as error:
            if _about_certificates(error):
                raise MailRefused(
                    "smtp_tls_failed",
                    f"no protected connection to {where}: {error}",
                    remedy="check the server's certificate, or whether the port expects smtps or smtp",
                ) from error
            if isinstance(error, OSError):
                raise MailTrouble("smtp_unreachable", f"{where} cannot be reached: {error}") from error
            raise MailRefused(
                "smtp_unsupported",
                f"{where} does not offer what is needed: {error}",
                remedy="use a server that offers STARTTLS and AUTH, or smtps:// with its port",
            ) from error

    async def _envelope(self, client: SMTP, sender: str, recipients: Sequence[str], size: int) -> None:
        """MAIL and RCPT for everybody; one refusal and nothing is sent to anybody."""
        from aiosmtplib import SMTPException, SMTPRecipientRefused, SMTPResponseException

        where = f"the SMTP server {self._smtp}"
        refused: list[SMTPRecipientRefused] = []
        try:
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
            options = [f"SIZE={size}"] if client.supports_extension("size") else []
            await client.mail(sender, options=options)
            for recipient in recipients:
                try:
                    await client.rcpt(recipient)
                except SMTPRecipientRefused as error:
                    refused.append(error)
            if refused:
                await client.rset()
        except SMTPResponseException as error:
            raise _answered(where, f"the sender {sender}", error.code, error.message) from error
        except (OSError, SMTPException) as error:
            if not refused:
                raise MailTrouble("smtp_broken", f"the connection to {where} broke: {error}") from error
        if refused:
            raise _refused_recipients(where, refused)

    async def _data(self, client: SMTP, payload: bytes) -> str:
        """Hand the message over; the server's answer line to the final dot."""
        from aiosmtplib import SMTPException, SMTPResponseException

        where = f"the SMTP server {self._smtp}"
        given = False
        try:
            begun = await client.execute_command(b"DATA")
            if begun.code != 354:
                raise _answered(where, "the message", begun.code, begun.message)
            protocol, transport = client.protocol, client.transport
            if protocol is None or transport is None:
                raise MailTrouble("smtp_broken", f"the connection to {where} broke before the message")
            writer = StreamWriter(
                cast(asyncio.WriteTransport, transport), protocol, None, asyncio.get_running_loop()
            )
            body = await asyncio.to_thread(_stuffed, payload)
            async with asyncio.timeout(max(self._account.timeout, len(body) / _CHUNK)):
                for start in range(0, len(body), _CHUNK):
                    writer.write(body[start : start + _CHUNK])
                    await writer.drain()
            if not client.is_connected:
                raise MailTrouble("smtp_broken", f"the connection to {where} broke within the message")
            given = True
            protocol.write(b".\r\n")
            answer = await protocol.read_response(timeout=self._account.timeout)
        except SMTPResponseException as error:
            raise MailTrouble("smtp_broken", f"{where} answered nonsense", sent_unknown=given) from error
        except (OSError, SMTPException) as error:
            when = "after" if given else "before"
            raise MailTrouble(
                "smtp_broken",
                f"the connection to {where} broke {when} the end of the message: {error}",
                sent_unknown=given,
            ) from error
        if answer.code != 250:
            raise _answered(where, "the message", answer.code, answer.message, given=True)
        # The message is delivered, so nothing that happens while saying goodbye matters.
        with suppress(OSError, SMTPException):
            await client.quit(timeout=_GOODBYE)
        client.close()  # Here, because a writer must not outlive its open transport.
        return f"{answer.code} {answer.message}"


def _secret_of(account: MailAccount, in_url: str) -> Callable[[], str]:
    if in_url or account.password is None:
        return lambda: in_url
    return account.password


def parse_endpoint(url: str, kind: str, starttls: bool | None = None) -> tuple[Endpoint, str]:
    """Where a mail URL leads, and the password in it (empty if there is none)."""
    field = f"{kind}_url"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad_url(field, "cannot be read") from error
    if parts.scheme not in (kind, f"{kind}s") or not parts.hostname:
        raise _bad_url(field, f"does not start with {kind}:// or {kind}s:// and a host")
    host = parts.hostname
    tls: Literal["implicit", "starttls", "plain"] = "implicit"
    if parts.scheme == kind:
        demanded = starttls if starttls is not None else not _is_loopback(host)
        tls = "starttls" if demanded else "plain"
        if tls == "plain" and parts.username and not _is_loopback(host):
            raise _bad_url(field, "would send the password over the network in clear text")
    user = unquote(parts.username or "")
    endpoint = Endpoint(host=host, port=port or _PORTS[parts.scheme], user=user, tls=tls)
    return endpoint, unquote(parts.password or "")


def _bad_url(field: str, what: str) -> BadInput:
    # The value is left out of the error: it may hold a password.
    kind = field.removesuffix("_url")
    return BadInput(f"{field} {what}", field=field, remedy=f"write {kind}s://user@mail.firma.example")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _own_name() -> str:
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9.-]{1,200}", name) else "localhost"


def _stuffed(payload: bytes) -> bytes:
    """The message as DATA wants it: CRLF line ends, leading dots doubled, a line end at the end; not the
    dot."""
    body = payload
    if not body.count(b"\r\n") == body.count(b"\n") == body.count(b"\r"):
        body = re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    # Not by `re`: it would hold the interpreter for as long as a large message takes.
    body = body.replace(b"\r\n.", b"\r\n..")
    body = b"." + body if body.startswith(b".") else body
    return body if body.endswith(b"\r\n") else body + b"\r\n"


def _about_certificates(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trouble(code: int, line: str, *, given: bool = False) -> MailTrouble:
    """A no that may pass. `given`: the server had been given the message."""
    return MailTrouble(f"smtp_{code}", line, not_ready=code in _NOT_READY and not given)


def _answered(
    where: str, what: str, code: int, message: str, *, given: bool = False
) -> MailRefused | MailTrouble:
    """The server's no: 4xx is trouble that may pass, 5xx is final."""
    line = f"{where} refused {what}: {code} {message}"
    if code < 500:
        return _trouble(code, line, given=given)
    if code == 552:
        return MailRefused("message_too_large", line, remedy="send a smaller attachment, or a link to it")
    return MailRefused(f"smtp_{code}", line, remedy="ask whoever runs the mail server why")


def _refused_recipients(where: str, refused: Sequence[object]) -> MailRefused | MailTrouble:
    from aiosmtplib import SMTPRecipientRefused

    errors = [each for each in refused if isinstance(each, SMTPRecipientRefused)]
    final = [each for each in errors if each.code >= 500]
    shown = "; ".join(f"{each.recipient}: {each.code} {each.message}" for each in final or errors)
    line = f"{where} refused a recipient, so nothing was sent: {shown}"
    if not final:
        return _trouble(errors[-1].code, line)  # The last one may be that the server closes.
    return MailRefused(
        "recipient_refused",
        line,
        remedy="correct or remove the address and retry the job",
        recipients=[each.recipient for each in final],
    )
