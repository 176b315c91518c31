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
    mail: Mailbox, recipient: str, message_id: str, expected: Fetched
) -> tuple[Proof, ...]:
    """The message is in the recipient's mailbox, once, and carries exactly this file."""
    found = await _arrived(mail, recipient, message_id)
    once = Proof(
        len(found) == 1,
        f"the message is in the mailbox of {recipient}, once",
        f"{len(found)} with Message-ID {message_id}",
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
        str(message["To"]) == recipient, "it is addressed to nobody else", f"To: {message['To']}"
    )
    return (once, addressed, _same_file(attachments, expected))


def _same_file(attachments: list[tuple[str, object]], expected: Fetched) -> Proof:
    claim = f"its one attachment is the portal's {expected.name}, byte for byte"
    wanted = digest(expected.content)
    if len(attachments) != 1 or not isinstance(attachments[0][1], bytes):
        return Proof(False, claim, f"attachments: {[name for name, _ in attachments]}")
    content = attachments[0][1]
    same = content == expected.content
    found = digest(content)
    evidence = f"SHA-256 {found}" + (", on both sides" if same else f", the portal's is {wanted}")
    return Proof(same, claim, f"{len(content):,} bytes, {evidence}")


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
