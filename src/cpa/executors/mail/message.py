"""Composing an outgoing message: addresses, headers, attachments; nothing from outside can become a header.

The Message-ID follows from the task (`ActionRequest.idempotency_key`) and the sender's domain, so every
attempt of one task in one run sends a message that can be recognised as the same one.

The email package reads encoded words (`=?utf-8?q?x=0d=0aBcc:…?=`) in what it is given and writes what they
stand for, line breaks included. So a subject with one is written as encoded words of our own, names and addresses
may hold none, and every header is looked at once more in the form in which it goes out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime, localtime

import idna

from cpa.executors.arguments import business
from cpa.ports.mail import MailAttachment

POLICY = SMTP.clone(cte_type="7bit", max_line_length=78)
"""Only ASCII goes over the wire: no server on the way has to know 8BITMIME or SMTPUTF8."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,80}/[a-z0-9][a-z0-9!#$&^_.+-]{0,80}")
_MAX_SUBJECT = 998
_MAX_LIST = 32 * 1024
_ONE_HEADER = re.compile(rb"[!-9;-~]+:(?:[^\r\n]|\r\n[ \t]+[^\r\n \t])*\r\n")
"""One header as it is sent: lines end in CR LF, each but the first begins with a blank and holds more than that."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NOT_IN_NAME = frozenset('<>@",;:\\[]')


def header_text(field: str, value: str) -> str:
    """One line of text for a header, or a refusal: a line break in it would start a header of its own."""
    if _CONTROL.search(value):
        raise business(
            "invalid_header",
            f"the {field} contains a line break or a control character",
            remedy=f"write the {field} on one line",
            argument=field,
        )
    if len(value) > _MAX_SUBJECT:
        raise business(
            "invalid_header",
            f"the {field} has {len(value)} characters",
            remedy=f"shorten it to {_MAX_SUBJECT} characters",
            argument=field,
        )
    return value


def parse_addresses(field: str, value: object) -> list[Address]:
    """The mailboxes in a text (`a@b, Jürgen <c@d>`; `;` separates too) or a list of such texts, in order,
    without doubles.

    Domains come back in ASCII (IDNA 2008). Groups, comments that hide something, and addresses a mail
    server would read differently are refused.
    """
    if value is None or value == "":
        return []
    texts = value if isinstance(value, list | tuple) else [value]
    found: dict[str, Address] = {}
    for text in texts:
        if not isinstance(text, str):
            raise _bad_address(field, repr(text), "is no text")
        for address in _parse_line(field, text):
            found.setdefault(address.addr_spec.lower(), address)
    return list(found.values())


def _parse_line(field: str, text: str) -> list[Address]:
    if _CONTROL.search(text):
        raise _bad_address(field, text, "contains a line break or a control character")
    if len(text) > _MAX_LIST:
        raise _bad_address(field, text, f"is longer than {_MAX_LIST} characters")
    found = [_read_mailbox(field, part) for part in _parts(text) if part]
    if not found:
        raise _bad_address(field, text, "holds no mail address")
    return found


def _parts(text: str) -> list[str]:
    """The text cut at commas and semicolons outside quotes."""
    parts, begin, quoted, escaped = [], 0, False, False
    for place, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character in ",;" and not quoted:
            parts.append(text[begin:place].strip())
            begin = place + 1
    return [*parts, text[begin:].strip()]


def _read_mailbox(field: str, part: str) -> Address:
    """`address`, `<address>`, `name <address>` or `"name" <address>`.

    Narrower than RFC 5322 on purpose: no comments, groups, routes, quoted or domain-literal addresses.
    """
    if not part.endswith(">"):
        return _checked(field, "", part)
    name, _, address = part[:-1].rpartition("<")
    name = name.strip()
    if quoted := _QUOTED.fullmatch(name):
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _NOT_IN_NAME & set(name):
        raise _bad_address(field, part, "cannot be read as a mail address")
    return _checked(field, name, address)


def _checked(field: str, name: str, address: str) -> Address:
    user, _, host = address.rpartition("@")
    if not _LOCAL.fullmatch(user) or len(user) > 64 or "=?" in user:
        what = "is not a mail address" if user.isascii() else "has umlauts before the '@'"
        raise _bad_address(field, address, what)
    if "=?" in name:
        raise _bad_address(field, name, "is an encoded name; write it as it reads")
    if host.endswith("."):
        raise _bad_address(field, address, "ends with a dot")
    try:
        domain = idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
    except idna.IDNAError as error:
        raise _bad_address(field, address, "has a domain that cannot exist") from error
    return Address(display_name=name, username=user, domain=domain)


def _bad_address(field: str, value: str, what: str) -> Exception:
    shown = _CONTROL.sub("·", value)[:200]
    return business(
        "invalid_address",
        f"'{shown}' in '{field}' {what}",
        remedy="write addresses such as billing@kunde.example or Jürgen Groß <j.gross@kunde.example>",
        argument=field,
    )


def message_id(key: str, sender: Address) -> str:
    """The Message-ID of the message that the task with this idempotency key sends."""
    return f"<cpa.{key}@{sender.domain}>"


def compose(
    *,
    sender: Address,
    to: Sequence[Address],
    cc: Sequence[Address],
    subject: str,
    text: str,
    attachments: Sequence[MailAttachment],
    identity: str,
) -> EmailMessage:
    """The message as it will be sent; blind recipients appear nowhere in it. Takes time with large
    attachments."""
    message = EmailMessage(policy=POLICY)
    message["From"] = sender
    message["To"] = list(to)
    if cc:
        message["Cc"] = list(cc)
    line = header_text("subject", subject)
    message["Subject"] = _Line(line) if "=?" in line else line
    message["Message-ID"] = identity
    message["Date"] = format_datetime(localtime())
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    for attachment in attachments:
        kind = attachment.media_type.lower()
        if not _MEDIA_TYPE.fullmatch(kind) or kind.startswith(("multipart/", "message/")):
            kind = "application/octet-stream"
        main, _, sub = kind.partition("/")
        name = safe_name(attachment.name)
        message.add_attachment(attachment.content, maintype=main, subtype=sub, filename=name)
    _check_headers(message)
    return message


class _Line(str):
    """The text of a subject that holds what looks like an encoded word: written so that it is read as it stands."""

    name = "Subject"

    def fold(self, *, policy: EmailPolicy) -> str:
        written = Header(str(self), "utf-8", maxlinelen=76, header_name=self.name)
        return f"{self.name}: {written.encode(linesep=policy.linesep)}{policy.linesep}"


def _check_headers(message: EmailMessage) -> None:
    """No header of any part is more than one when it is written."""
    for part in message.walk():
        for name, value in part.raw_items():
            if not _ONE_HEADER.fullmatch(POLICY.fold_binary(name, value)):
                raise business(
                    "invalid_header",
                    f"the header {name} would be more than one",
                    remedy="write subject, names and file names as they read, without encoded words",
                    argument=name.lower(),
                )


def safe_name(name: str) -> str:
    """A file name without path, control characters and encoded words, at most 200 characters; never empty."""
    plain = _CONTROL.sub("", name.replace("\\", "/").rpartition("/")[2]).strip(" .")
    return plain[-200:].replace("=?", "=_") or "file"
