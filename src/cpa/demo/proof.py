"""Whether the demo's effect is there: looked for where it must be, by other means than those that made it.

The invoice is fetched from the portal again, by plain HTTP and chosen by its date; the message is taken from the
recipient's mailbox. Nothing that a job said about itself is believed, except under which Message-ID to look.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from urllib.parse import urljoin

import httpx2

from cpa.demo.mailbox import Mailbox
from cpa.demo.words import said
from cpa.errors import Unavailable

_CUSTOMER = re.compile(r'<li><a href="(/customers/\d+)">')
_INVOICE = re.compile(r'<time datetime="([\d-]+)">.*?<a class="pdf" href="([^"]+)"', re.DOTALL)
_ARRIVAL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Proof:
    """One claim about the world, and what was seen."""

    holds: bool
    claim: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file as the portal gives it."""

    name: str
    content: bytes


async def fetch_latest_invoice(portal: str, user: str, password: str, customer: str) -> Fetched:
    """The customer's newest invoice by date, over plain HTTP. `Unavailable` when the portal has none."""
    async with httpx2.AsyncClient(base_url=portal, follow_redirects=True, trust_env=False) as visitor:
        await visitor.post("/login", data={"username": user, "password": password})
        found = _CUSTOMER.findall((await visitor.get("/customers", params={"q": customer})).text)
        page = (await visitor.get(found[0])).text if len(found) == 1 else ""
        invoices = _INVOICE.findall(page)
        if not invoices:
            raise Unavailable(
                "the portal shows no invoice of this customer", field="customer", value=customer
            )
        path = max(invoices)[1]
        answer = await visitor.get(urljoin(portal, path))
        answer.raise_for_status()
        name = re.search(r'filename="([^"]+)"', answer.headers["Content-Disposition"])
        return Fetched(name[1] if name else path, answer.content)


async def prove_delivery(
    mail: Mailbox, recipient: str, message_id: str, expected: Fetched, language: str = "en"
) -> tuple[Proof, ...]:
    """The message is in the recipient's mailbox, once, and carries exactly this file. Claimed in this language."""
    found = await _arrived(mail, recipient, message_id)
    once = Proof(
        len(found) == 1,
        said(language, "the message is in the mailbox of {recipient}, once", recipient=recipient),
        said(language, "{count} with Message-ID {id}", count=len(found), id=message_id),
    )
    if not found:
        return (once,)
    message = message_from_bytes(found[0], policy=policy.default)
    attachments = [
        (part.get_filename() or "", part.get_content())
        for part in message.iter_attachments()
        if isinstance(part, EmailMessage)
    ]
    addressed = Proof(
        str(message["To"]) == recipient,
        said(language, "it is addressed to nobody else"),
        f"To: {message['To']}",
    )
    return (once, addressed, _same_file(attachments, expected, language))


def _same_file(attachments: list[tuple[str, object]], expected: Fetched, language: str) -> Proof:
    words = "its one attachment is the portal's {name}, byte for byte"
    claim = said(language, words, name=expected.name)
    wanted = digest(expected.content)
    if len(attachments) != 1 or not isinstance(attachments[0][1], bytes):
        names = [name for name, _ in attachments]
        return Proof(False, claim, said(language, "attachments: {names}", names=names))
    content = attachments[0][1]
    same = content == expected.content
    seen = "{size:,} bytes, SHA-256 {digest}, on both sides"
    if not same:
        seen = "{size:,} bytes, SHA-256 {digest}, the portal's is {wanted}"
    evidence = said(language, seen, size=len(content), digest=digest(content), wanted=wanted)
    return Proof(same, claim, evidence)


async def _arrived(mail: Mailbox, recipient: str, message_id: str) -> list[bytes]:
    """What is there once something is there; a mail server may take a moment after its 250."""
    deadline = time.monotonic() + _ARRIVAL_SECONDS
    while True:
        found = await mail.messages(recipient, message_id)
        if found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.1)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
