"""The portal's pages as HTML. Every value from outside goes through `html.escape`; nothing else is clever."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from cpa.demo.invoices import INVOICES, SUPPLIER, Customer, Invoice, invoices_of, money

_LOGO = """<svg width="38" height="38" viewBox="0 0 38 38" aria-hidden="true">
<rect width="38" height="38" rx="8" fill="#fff"/>
<path d="M7 14 19 7l12 7v14l-12 6-12-6z" fill="#14496f"/>
<path d="M7 14l12 6 12-6M19 20v14" stroke="#fff" stroke-width="2" fill="none"/>
<path d="M13 10.500l12 7v5" stroke="#e07a1f" stroke-width="3" fill="none"/></svg>"""
_MENU = (("/", "Overview"), ("/customers", "Customers"))


def _page(title: str, body: str, *, user: str = "", here: str = "") -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{escape(title)} · Supplier portal</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/portal.css">
</head>
<body>
<a class="skip" href="#content">Skip to content</a>
<header><div class="inner">
<a class="brand" href="/">{_LOGO}<span>{escape(SUPPLIER)}<small>Supplier portal</small></span></a>
{_menu(user, here) if user else ""}
</div></header>
<main id="content">
{body}
</main>
<footer>{escape(SUPPLIER)} · Speicherstraße 14 · 20457 Hamburg · A demonstration with invented data</footer>
</body>
</html>
"""


def _menu(user: str, here: str) -> str:
    entries = "".join(
        f'<a href="{path}"{" aria-current=page" if path == here else ""}>{label}</a>' for path, label in _MENU
    )
    return f"""<nav aria-label="Main">{entries}</nav>
<div class="account"><span>Signed in as <strong>{escape(user)}</strong></span>
<form method="post" action="/logout"><button type="submit">Sign out</button></form></div>"""


def login_page(*, target: str = "/", user: str = "", error: str = "", notice: str = "") -> str:
    flash = f'<p class="flash notice" role="status">{escape(notice)}</p>' if notice else ""
    if error:
        flash = f'<p class="flash error" role="alert">{escape(error)}</p>'
    body = f"""<section class="card login">
<h1>Sign in</h1>
<p class="lead">Invoices and orders for our customers.</p>
{flash}
<form method="post" action="/login?next={quote(target, safe="")}">
<label for="username">User name</label>
<input id="username" name="username" value="{escape(user)}" autocomplete="username" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Sign in</button>
</form>
</section>"""
    return _page("Sign in", body)


def overview_page(user: str) -> str:
    unpaid = [invoice for invoice in INVOICES if invoice.status != "paid"]
    figures = (
        ("Open invoices", str(len(unpaid))),
        ("Overdue", str(sum(invoice.status == "overdue" for invoice in unpaid))),
        ("Outstanding", money(sum(invoice.total for invoice in unpaid))),
    )
    cards = "".join(
        f'<div class="card"><div class="soft">{label}</div><div class="figure">{value}</div></div>'
        for label, value in figures
    )
    body = f"""<h1>Welcome</h1>
<p class="lead">What is open today.</p>
<div class="cards">{cards}</div>
<p><a href="/customers">Find a customer and download invoices</a></p>"""
    return _page("Overview", body, user=user, here="/")


def customers_page(user: str, query: str, found: Sequence[Customer]) -> str:
    rows = "\n".join(
        f'<li><a href="/customers/{customer.id}">{escape(customer.name)}</a>'
        f'<span class="soft">{escape(customer.city)} · No. {customer.id}</span></li>'
        for customer in found
    )
    results = f'<ul id="results" aria-label="Customers found">{rows}</ul>'
    if not found:
        results = f'<p id="no-results" role="status">No customer matches “{escape(query)}”.</p>'
    body = f"""<h1>Customers</h1>
<p class="lead">Search by name, or choose from the list.</p>
<section class="card">
<form class="search" method="get" action="/customers" role="search">
<div><label for="q">Customer</label><input id="q" name="q" type="search" value="{escape(query)}"></div>
<button type="submit">Search</button>
</form>
{results}
</section>"""
    return _page("Customers", body, user=user, here="/customers")


def customer_page(user: str, customer: Customer) -> str:
    invoices = invoices_of(customer)
    body = f"""<h1>{escape(customer.name)}</h1>
<address class="lead">{escape(customer.street)}, {escape(customer.city)} · No. {customer.id}</address>
<section class="card">
{_table(invoices) if invoices else '<p id="no-invoices" role="status">There are no invoices yet.</p>'}
</section>
<p><a href="/customers">Back to the customers</a></p>"""
    return _page(customer.name, body, user=user, here="/customers")


def _table(invoices: Sequence[Invoice]) -> str:
    return f"""<table id="invoices">
<caption>{len(invoices)} invoices, newest first</caption>
<thead><tr><th scope="col">Number</th><th scope="col">Date</th><th scope="col" class="amount">Amount</th>
<th scope="col">Status</th><th scope="col">File</th></tr></thead>
<tbody>{"".join(_row(invoice) for invoice in invoices)}</tbody>
</table>"""


def _row(invoice: Invoice) -> str:
    path = f"/invoices/{invoice.number}"
    return f"""<tr>
<th scope="row">{invoice.number}</th>
<td><time datetime="{invoice.issued}">{invoice.issued}</time></td>
<td class="amount">{money(invoice.total)}</td>
<td><span class="status {invoice.status}">{invoice.status}</span></td>
<td><a class="pdf" href="{path}.pdf" aria-label="Download invoice {invoice.number} as PDF">PDF</a>
<a class="view" href="{path}/view" aria-label="View invoice {invoice.number}">View</a></td>
</tr>"""


def missing_page(user: str, what: str) -> str:
    body = f"""<h1>Not found</h1>
<p class="flash error" role="alert">{escape(what)}</p>
<p><a href="/customers">Back to the customers</a></p>"""
    return _page("Not found", body, user=user)
