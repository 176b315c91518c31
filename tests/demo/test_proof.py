"""A proof holds when the effect is there, and fails for every way in which it is not."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import pytest

from cpa.demo.invoices import CUSTOMERS, invoice_pdf, invoices_of
from cpa.demo.mailbox import Mailbox, open_mailbox
from cpa.demo.portal import create_portal
from cpa.demo.proof import Fetched, fetch_latest_invoice, prove_delivery
from cpa.demo.serving import serve
from cpa.errors import Unavailable

RECIPIENT = "billing@kunde.example"
ID = "<job.send@cpa.example>"
EXPECTED = Fetched("invoice-2026-0377.pdf", invoice_pdf(invoices_of(CUSTOMERS[0])[0]))


@pytest.fixture
async def portal() -> AsyncIterator[str]:
    async with serve(create_portal("geheim")) as url:
        yield url


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[Mailbox]:
    async with open_mailbox(tmp_path, kind="embedded") as opened:
        yield opened


@dataclass(frozen=True)
class Letter:
    to: str = RECIPIENT
    message_id: str = ID
    files: tuple[bytes, ...] = (EXPECTED.content,)

    def message(self) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"], message["Message-ID"] = "cpa@cpa.example", self.to, self.message_id
        message.set_content("Anbei die Rechnung.\n")
        for content in self.files:
            message.add_attachment(content, maintype="application", subtype="pdf", filename=EXPECTED.name)
        return message


async def deliver(mail: Mailbox, letter: Letter, times: int = 1) -> None:
    def send() -> None:
        with smtplib.SMTP(mail.smtp.host, mail.smtp.port, timeout=20) as client:
            client.login(mail.smtp.user, mail.smtp.password)
            for _ in range(times):
                client.send_message(letter.message(), to_addrs=[RECIPIENT])

    await asyncio.to_thread(send)


async def test_the_independent_fetch_takes_the_newest_invoice_by_date(portal: str) -> None:
    assert await fetch_latest_invoice(portal, "demo", "geheim", "ACME") == EXPECTED


@pytest.mark.parametrize(
    ("password", "customer"), [("falsch", "ACME"), ("geheim", "Nordwind"), ("geheim", "Müller")]
)
async def test_without_one_customer_with_invoices_there_is_nothing_to_compare_with(
    portal: str, password: str, customer: str
) -> None:
    with pytest.raises(Unavailable, match="no invoice"):
        await fetch_latest_invoice(portal, "demo", password, customer)


async def test_a_delivered_invoice_is_proved(mail: Mailbox) -> None:
    await deliver(mail, Letter())
    proofs = await prove_delivery(mail, RECIPIENT, ID, EXPECTED)

    assert [proof.holds for proof in proofs] == [True, True, True]


@pytest.mark.parametrize(
    ("letter", "times", "holds"),
    [
        (Letter(), 2, [False, True, True]),
        (Letter(to="jemand@anders.example"), 1, [True, False, True]),
        (Letter(files=(EXPECTED.content[:-1] + b" ",)), 1, [True, True, False]),
        (Letter(files=(EXPECTED.content, EXPECTED.content)), 1, [True, True, False]),
        (Letter(files=()), 1, [True, True, False]),
    ],
    ids=["twice", "to somebody else", "another file", "two files", "no file"],
)
async def test_anything_else_is_not(mail: Mailbox, letter: Letter, times: int, holds: list[bool]) -> None:
    await deliver(mail, letter, times)
    proofs = await prove_delivery(mail, RECIPIENT, ID, EXPECTED)

    assert holds == [proof.holds for proof in proofs]


async def test_a_message_that_never_came_is_not_proved(
    mail: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpa.demo.proof._ARRIVAL_SECONDS", 0.0)
    await deliver(mail, Letter(message_id="<other@cpa.example>"))
    proofs = await prove_delivery(mail, RECIPIENT, ID, EXPECTED)

    assert [proof.holds for proof in proofs] == [False]
