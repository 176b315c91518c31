"""The books of the demo's supplier: customers, invoices, and each invoice as a PDF. Always the same.

Nothing here reads a clock or draws a number: the same invoice gives the same bytes on every machine. Invoice
numbers are given when an order is taken, dates when it is shipped, so the newest invoice of a customer is
often not the one with the highest number: "the latest" has to be found by date.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from cpa.demo.pdf import HEIGHT, WIDTH, Colour, Page, document

SUPPLIER = "Lieferhaus Nord GmbH"
_VAT_PERCENT = 19
_BLUE: Colour = (0.08, 0.29, 0.45)
_GREY: Colour = (0.40, 0.44, 0.49)
_PALE: Colour = (0.93, 0.95, 0.97)


@dataclass(frozen=True, slots=True)
class Customer:
    id: str
    name: str
    street: str
    city: str


@dataclass(frozen=True, slots=True)
class Line:
    """One position of an invoice; `price` is the net price of one unit in cents."""

    text: str
    quantity: int
    price: int

    @property
    def amount(self) -> int:
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Invoice:
    """Amounts are integer cents."""

    number: str
    customer: Customer
    issued: date
    status: str
    """`open`, `overdue` or `paid`"""
    lines: tuple[Line, ...]

    @property
    def net(self) -> int:
        return sum(line.amount for line in self.lines)

    @property
    def tax(self) -> int:
        return (self.net * _VAT_PERCENT + 50) // 100

    @property
    def total(self) -> int:
        return self.net + self.tax

    @property
    def due(self) -> date:
        return self.issued + timedelta(days=30)

    @property
    def file_name(self) -> str:
        return f"invoice-{self.number}.pdf"


CUSTOMERS: tuple[Customer, ...] = (
    Customer("10017", "ACME GmbH", "Industriestraße 12", "10115 Berlin"),
    Customer("10023", "Müller & Söhne KG", "Am Güterbahnhof 3", "80331 München"),
    Customer("10024", "Müller Logistik GmbH", "Hafenring 41", "20457 Hamburg"),
    Customer("10031", "Fröhlich Maschinenbau", "Schweißerweg 7", "70173 Stuttgart"),
    Customer("10038", "Größner Werkzeuge OHG", "Alte Gießerei 1", "42651 Solingen"),
    Customer("10042", "Ärztehaus am Südring", "Südring 88", "48153 Münster"),
    Customer("10055", "Brix & Sons Ltd.", "4 Foundry Lane", "Leeds LS1 4AP"),
    Customer("10061", "Café Dupré", "Königsallee 20", "40212 Düsseldorf"),
    Customer("10070", "Nordwind Energie eG", "Deichweg 5", "25813 Husum"),
)

# Customer, invoice number, day of issue, status. Nordwind has bought nothing yet.
_BOOKS = """
10017 2026-0118 2026-03-12 paid
10017 2026-0204 2026-05-27 paid
10017 2026-0291 2026-08-03 paid
10017 2026-0377 2026-11-12 open
10017 2026-0391 2026-10-08 overdue
10017 2026-0402 2026-10-29 open
10023 2026-0097 2026-02-18 paid
10023 2026-0233 2026-06-11 paid
10023 2026-0366 2026-11-05 open
10023 2026-0381 2026-09-30 paid
10024 2026-0150 2026-04-14 paid
10024 2026-0310 2026-08-21 paid
10024 2026-0398 2026-10-22 open
10031 2025-0871 2025-12-09 paid
10031 2026-0187 2026-05-06 paid
10031 2026-0355 2026-11-17 open
10031 2026-0372 2026-09-15 overdue
10031 2026-0405 2026-11-02 open
10038 2026-0061 2026-01-29 paid
10038 2026-0279 2026-07-16 paid
10038 2026-0388 2026-10-01 overdue
10042 2026-0142 2026-04-02 paid
10042 2026-0329 2026-10-19 open
10042 2026-0344 2026-09-08 paid
10055 2026-0166 2026-04-24 paid
10055 2026-0301 2026-08-12 paid
10055 2026-0395 2026-10-15 open
10061 2026-0210 2026-06-01 paid
10061 2026-0399 2026-11-09 open
"""

_GOODS: tuple[tuple[str, int], ...] = (
    ("Carbide end mill Ø 8 mm", 4890),
    ("Kühlschmierstoff, 20 l", 11650),
    ("Ball bearing 6204-2RS", 795),
    ("Schutzhandschuhe, Größe 9 (12 pairs)", 3540),
    ("Hydraulic hose DN 10, per metre", 1425),
    ("Spannzange ER 32, 3 to 20 mm", 2380),
    ("Sealing kit for pump P-200", 6720),
    ("Drehmomentschlüssel 20 to 100 Nm", 13900),
    ("Hexagon screws M8 × 40, box of 100", 1860),
    ("On-site service, per hour", 9800),
    ("Express delivery", 2900),
)


def _lines(number: str) -> tuple[Line, ...]:
    """Three to seven positions that follow from the invoice number."""
    digest = hashlib.sha256(number.encode("ascii")).digest()
    start, step = digest[0] % len(_GOODS), 1 + digest[1] % (len(_GOODS) - 1)
    chosen = [_GOODS[(start + step * place) % len(_GOODS)] for place in range(3 + digest[2] % 5)]
    return tuple(Line(text, 1 + digest[3 + place] % 12, price) for place, (text, price) in enumerate(chosen))


def _read_books() -> tuple[Invoice, ...]:
    customers = {customer.id: customer for customer in CUSTOMERS}
    rows = [row.split() for row in _BOOKS.split("\n") if row]
    return tuple(
        Invoice(number, customers[customer], date.fromisoformat(issued), status, _lines(number))
        for customer, number, issued, status in rows
    )


INVOICES: tuple[Invoice, ...] = _read_books()


def find_customers(query: str) -> list[Customer]:
    """Customers whose name contains every word asked for; case and umlauts (ü, ue, u) make no difference."""
    words = [_spellings(word) for word in query.split()]
    return [
        customer
        for customer in CUSTOMERS
        if all(any(word in name for word in forms for name in _spellings(customer.name)) for forms in words)
    ]


def customer_by_id(customer: str) -> Customer | None:
    return next((known for known in CUSTOMERS if known.id == customer), None)


def invoices_of(customer: Customer) -> list[Invoice]:
    """Newest first."""
    own = [invoice for invoice in INVOICES if invoice.customer == customer]
    return sorted(own, key=lambda invoice: (invoice.issued, invoice.number), reverse=True)


def invoice_by_number(number: str) -> Invoice | None:
    return next((invoice for invoice in INVOICES if invoice.number == number), None)


def money(cents: int) -> str:
    """`EUR 1,234.56`"""
    return f"EUR {cents // 100:,}.{cents % 100:02d}"


def _spellings(text: str) -> tuple[str, str]:
    """The two usual ways to write umlauts on a keyboard without them: `mueller` and `muller`."""
    plain = text.casefold()
    written_out = plain
    for umlaut, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue")):
        written_out = written_out.replace(umlaut, letters)
    return _without_accents(written_out), _without_accents(plain)


def _without_accents(text: str) -> str:
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter)
    )


def invoice_pdf(invoice: Invoice) -> bytes:
    """The invoice on paper; the same bytes every time."""
    page = Page()
    _letterhead(page, invoice)
    end = _table(page, invoice.lines, top=330)
    _totals(page, invoice, top=end + 18)
    _footer(page)
    return document(
        [page],
        title=f"Invoice {invoice.number}",
        author=SUPPLIER,
        created=f"{invoice.issued:%Y%m%d}000000Z",
    )


_LEFT, _RIGHT = 62, WIDTH - 62


def _letterhead(page: Page, invoice: Invoice) -> None:
    page.box(0, 0, WIDTH, 8, _BLUE)
    page.text(_LEFT, 60, SUPPLIER, size=18, bold=True, colour=_BLUE)
    page.text(_LEFT, 76, "Tools, spare parts and service for industry", size=9, colour=_GREY)
    for place, row in enumerate(("Speicherstraße 14", "20457 Hamburg", "lieferhaus.example")):
        page.text_right(_RIGHT, 52 + 13 * place, row, size=9, colour=_GREY)
    customer = invoice.customer
    page.text(_LEFT, 132, f"{SUPPLIER} · Speicherstraße 14 · 20457 Hamburg", size=7, colour=_GREY)
    page.line(_LEFT, 265, 136, colour=_GREY, width=0.4)
    page.text(_LEFT, 156, customer.name, size=11, bold=True)
    page.text(_LEFT, 171, customer.street, size=11)
    page.text(_LEFT, 186, customer.city, size=11)
    facts = (
        ("Invoice number", invoice.number),
        ("Customer number", customer.id),
        ("Date", invoice.issued.isoformat()),
        ("Due", invoice.due.isoformat()),
    )
    page.box(350, 140, _RIGHT - 350, 78, _PALE)
    for place, (label, value) in enumerate(facts):
        page.text(362, 160 + 16 * place, label, size=9, colour=_GREY)
        page.text_right(_RIGHT - 12, 160 + 16 * place, value, size=10, bold=True)
    page.text(_LEFT, 270, f"Invoice {invoice.number}", size=16, bold=True, colour=_BLUE)
    page.text(_LEFT, 292, "Thank you for your order. We invoice the following goods and services:", size=10)


def _table(page: Page, lines: Sequence[Line], *, top: int) -> int:
    """The positions; returns where the table ends."""
    page.box(_LEFT, top - 16, _RIGHT - _LEFT, 24, _BLUE)
    white: Colour = (1, 1, 1)
    page.text(_LEFT + 8, top, "Pos.", size=9, bold=True, colour=white)
    page.text(_LEFT + 42, top, "Description", size=9, bold=True, colour=white)
    for x, label in ((350, "Quantity"), (440, "Unit price"), (_RIGHT - 8, "Amount")):
        page.text_right(x, top, label, size=9, bold=True, colour=white)
    for place, line in enumerate(lines, start=1):
        y = top + 26 * place
        if place % 2 == 0:
            page.box(_LEFT, y - 17, _RIGHT - _LEFT, 26, _PALE)
        page.text(_LEFT + 8, y, str(place))
        page.text(_LEFT + 42, y, line.text)
        page.text_right(350, y, str(line.quantity))
        page.text_right(440, y, money(line.price))
        page.text_right(_RIGHT - 8, y, money(line.amount))
    end = top + 26 * len(lines) + 12
    page.line(_LEFT, _RIGHT, end, colour=_BLUE, width=1)
    return end


def _totals(page: Page, invoice: Invoice, *, top: int) -> None:
    page.text(350, top, "Net amount", colour=_GREY)
    page.text_right(_RIGHT - 8, top, money(invoice.net))
    page.text(350, top + 18, f"VAT {_VAT_PERCENT} %", colour=_GREY)
    page.text_right(_RIGHT - 8, top + 18, money(invoice.tax))
    page.box(342, top + 28, _RIGHT - 342, 26, _BLUE)
    page.text(350, top + 45, "Total", size=12, bold=True, colour=(1, 1, 1))
    page.text_right(_RIGHT - 8, top + 45, money(invoice.total), size=12, bold=True, colour=(1, 1, 1))
    page.text(_LEFT, top + 88, f"Please pay by {invoice.due.isoformat()}, stating the invoice number.")


def _footer(page: Page) -> None:
    page.line(_LEFT, _RIGHT, HEIGHT - 74, colour=_GREY, width=0.4)
    columns = (
        (SUPPLIER, "Hamburg · HRB 000000", "Managing director: Jörg Weiß"),
        ("IBAN DE02 1203 0000 0000 2020 51", "BIC BYLADEM1001", "VAT ID DE000000000"),
        ("accounts@lieferhaus.example", "lieferhaus.example", "Page 1 of 1"),
    )
    for place, rows in enumerate(columns):
        for number, row in enumerate(rows):
            page.text(_LEFT + 165 * place, HEIGHT - 60 + 11 * number, row, size=8, colour=_GREY)
