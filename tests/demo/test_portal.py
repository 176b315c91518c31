"""The portal as a visitor sees it, over real HTTP."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from pypdf import PdfReader

from cpa.demo.invoices import CUSTOMERS, INVOICES, invoice_pdf, invoices_of
from cpa.demo.portal import create_portal
from cpa.demo.serving import serve

PASSWORD = "Grüße-42"


@pytest.fixture
async def visitor() -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        serve(create_portal(PASSWORD)) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False, follow_redirects=True) as client,
    ):
        yield client


async def sign_in(visitor: httpx2.AsyncClient, password: str = PASSWORD) -> httpx2.Response:
    return await visitor.post("/login", data={"username": "demo", "password": password})


async def test_health_needs_no_account(visitor: httpx2.AsyncClient) -> None:
    assert (await visitor.get("/health")).text == "healthy"


@pytest.mark.parametrize("path", ["/", "/customers", "/customers/10017", "/invoices/2026-0377.pdf"])
async def test_a_visitor_without_session_is_sent_to_the_sign_in_page(
    visitor: httpx2.AsyncClient, path: str
) -> None:
    answer = await visitor.get(path)

    assert answer.url.path == "/login"
    assert 'id="password"' in answer.text


async def test_after_signing_in_the_visitor_is_where_he_wanted_to_be(visitor: httpx2.AsyncClient) -> None:
    form = await visitor.get("/customers?q=Müller")
    action = re.search(r'action="(/login[^"]*)"', form.text)
    assert action is not None
    answer = await visitor.post(action[1], data={"username": "demo", "password": PASSWORD})

    assert answer.url.path == "/customers"
    assert answer.url.params["q"] == "Müller"
    assert 'nav aria-label="Main"' in answer.text


@pytest.mark.parametrize("target", ["//evil.example/", "https://evil.example/", "/\\evil.example"])
async def test_signing_in_never_leads_to_another_site(visitor: httpx2.AsyncClient, target: str) -> None:
    answer = await visitor.post(
        "/login", params={"next": target}, data={"username": "demo", "password": PASSWORD}
    )

    assert answer.url.host == "127.0.0.1"
    assert answer.url.path == "/"


async def test_a_wrong_password_is_said_and_opens_nothing(visitor: httpx2.AsyncClient) -> None:
    answer = await sign_in(visitor, "Grüße-43")

    assert answer.status_code == 401
    assert '<p class="flash error" role="alert">Wrong user name or password</p>' in answer.text
    assert (await visitor.get("/customers")).url.path == "/login"


async def test_signing_out_closes_the_session(visitor: httpx2.AsyncClient) -> None:
    await sign_in(visitor)
    session = visitor.cookies["portal_session"]
    await visitor.post("/logout")
    visitor.cookies.set("portal_session", session)

    assert (await visitor.get("/customers")).url.path == "/login"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("ACME", ["ACME GmbH"]),
        ("acme gmbh", ["ACME GmbH"]),
        ("Müller", ["Müller &amp; Söhne KG", "Müller Logistik GmbH"]),
        ("mueller soehne", ["Müller &amp; Söhne KG"]),
        ("MULLER logistik", ["Müller Logistik GmbH"]),
        ("Groessner", ["Größner Werkzeuge OHG"]),
        ("dupre", ["Café Dupré"]),
        ("& sons", ["Brix &amp; Sons Ltd."]),
    ],
)
async def test_the_search_finds_a_customer_however_it_is_written(
    visitor: httpx2.AsyncClient, query: str, names: list[str]
) -> None:
    await sign_in(visitor)
    page = (await visitor.get("/customers", params={"q": query})).text

    assert names == re.findall(r'<li><a href="/customers/\d+">([^<]*)</a>', page)


async def test_a_search_without_a_hit_says_so_and_escapes_what_was_typed(
    visitor: httpx2.AsyncClient,
) -> None:
    await sign_in(visitor)
    page = (await visitor.get("/customers", params={"q": "<b>Niemand</b>"})).text

    assert 'id="no-results"' in page
    assert "&lt;b&gt;Niemand&lt;/b&gt;" in page
    assert "<b>Niemand" not in page


async def test_invoices_are_listed_newest_first_whatever_their_numbers(visitor: httpx2.AsyncClient) -> None:
    await sign_in(visitor)
    page = (await visitor.get("/customers/10017")).text
    numbers = re.findall(r'<th scope="row">([\d-]+)</th>', page)
    days = re.findall(r'<time datetime="([\d-]+)">', page)

    assert sorted(days, reverse=True) == days
    assert numbers[0] == "2026-0377"
    assert numbers[0] != max(numbers)


async def test_a_download_is_an_attachment_and_a_view_is_not(visitor: httpx2.AsyncClient) -> None:
    await sign_in(visitor)
    download = await visitor.get("/invoices/2026-0377.pdf")
    view = await visitor.get("/invoices/2026-0377/view")

    assert download.headers["Content-Disposition"] == 'attachment; filename="invoice-2026-0377.pdf"'
    assert view.headers["Content-Disposition"].startswith("inline")
    assert download.content == view.content == invoice_pdf(invoices_of(CUSTOMERS[0])[0])


async def test_a_customer_without_invoices_has_no_table(visitor: httpx2.AsyncClient) -> None:
    await sign_in(visitor)
    page = (await visitor.get("/customers/10070")).text

    assert 'id="no-invoices"' in page
    assert 'id="invoices"' not in page


@pytest.mark.parametrize("path", ["/customers/99999", "/invoices/1999-0001.pdf", "/invoices/1999-0001/view"])
async def test_what_is_not_there_is_a_readable_404(visitor: httpx2.AsyncClient, path: str) -> None:
    await sign_in(visitor)
    answer = await visitor.get(path)

    assert answer.status_code == 404
    assert 'role="alert">There is no ' in answer.text


@pytest.mark.parametrize("invoice", INVOICES, ids=lambda invoice: str(invoice.number))
def test_an_invoice_can_be_read_back_from_its_pdf(invoice: object) -> None:
    from cpa.demo.invoices import Invoice, money

    assert isinstance(invoice, Invoice)
    reader = PdfReader(io.BytesIO(invoice_pdf(invoice)), strict=True)
    text = reader.pages[0].extract_text()

    assert len(reader.pages) == 1
    assert invoice.customer.name in text
    assert f"Invoice number {invoice.number}" in text
    assert f"Total {money(invoice.total)}" in text
    for line in invoice.lines:
        assert line.text in text


def test_the_same_invoice_is_the_same_file_and_another_is_not() -> None:
    files = [invoice_pdf(invoice) for invoice in INVOICES]

    assert files == [invoice_pdf(invoice) for invoice in INVOICES]
    assert len(set(files)) == len(files)
