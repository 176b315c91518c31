"""A small supplier portal: sign in, search a customer, list the invoices, download one as PDF.

It stands for the many portals CPA has to work with, so it behaves like one: rendered on the server, a session
cookie, redirects to the sign-in page, downloads as attachments. Its data never changes
(`cpa.demo.invoices`). It knows nothing of CPA.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Form, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from cpa.demo import pages
from cpa.demo.invoices import (
    CUSTOMERS,
    customer_by_id,
    find_customers,
    invoice_by_number,
    invoice_pdf,
)

_COOKIE = "portal_session"
_routes = APIRouter()
_style = files("cpa.demo").joinpath("portal.css").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class _Account:
    """Who may sign in, and the sessions that are open: in memory, they end with the process."""

    user: str
    password: str
    sessions: set[str] = field(default_factory=set)


class _NotSignedInError(Exception):
    """The visitor has to sign in first."""


class _MissingError(Exception):
    """There is no such page; the text says what was looked for."""

    def __init__(self, user: str, what: str) -> None:
        super().__init__(what)
        self.user, self.what = user, what


def create_portal(password: str, *, user: str = "demo") -> FastAPI:
    """The portal, with one account."""
    app = FastAPI(title="Supplier portal", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.account = _Account(user, password)
    app.include_router(_routes)
    app.add_exception_handler(_NotSignedInError, _to_sign_in)
    app.add_exception_handler(_MissingError, _not_found)
    return app


def _account(request: Request) -> _Account:
    account: _Account = request.app.state.account
    return account


def _signed_in(request: Request) -> str:
    account = _account(request)
    if request.cookies.get(_COOKIE) not in account.sessions:
        raise _NotSignedInError
    return account.user


User = Annotated[str, Depends(_signed_in)]


async def _to_sign_in(request: Request, _error: Exception) -> Response:
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(request.url_for("sign_in_form").include_query_params(next=target), 303)


async def _not_found(_request: Request, error: Exception) -> Response:
    assert isinstance(error, _MissingError)
    return HTMLResponse(pages.missing_page(error.user, error.what), status_code=404)


@_routes.get("/login", response_class=HTMLResponse)
async def sign_in_form(next: str = "/") -> str:
    return pages.login_page(target=_own_path(next))


@_routes.post("/login")
async def sign_in(
    request: Request,
    username: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: str = "/",
) -> Response:
    account = _account(request)
    if not (_same(username, account.user) & _same(password, account.password)):
        page = pages.login_page(target=_own_path(next), user=username, error="Wrong user name or password")
        return HTMLResponse(page, status_code=401)
    session = secrets.token_urlsafe(24)
    account.sessions.add(session)
    answer = RedirectResponse(_own_path(next), 303)
    answer.set_cookie(_COOKIE, session, httponly=True, samesite="lax")
    return answer


@_routes.post("/logout")
async def sign_out(request: Request) -> Response:
    _account(request).sessions.discard(request.cookies.get(_COOKIE, ""))
    answer = HTMLResponse(pages.login_page(notice="You are signed out."))
    answer.delete_cookie(_COOKIE)
    return answer


@_routes.get("/portal.css")
async def stylesheet() -> Response:
    return Response(_style, media_type="text/css")


@_routes.get("/health", response_class=PlainTextResponse)
async def health() -> str:
    return "healthy"


@_routes.get("/", response_class=HTMLResponse)
async def overview(user: User) -> str:
    return pages.overview_page(user)


@_routes.get("/customers", response_class=HTMLResponse)
async def customers(user: User, q: str = "") -> str:
    query = q.strip()
    return pages.customers_page(user, query, find_customers(query) if query else CUSTOMERS)


@_routes.get("/customers/{number}", response_class=HTMLResponse)
async def customer(user: User, number: str) -> str:
    found = customer_by_id(number)
    if found is None:
        raise _MissingError(user, f"There is no customer with the number {number}.")
    return pages.customer_page(user, found)


@_routes.get("/invoices/{number}.pdf")
async def download(user: User, number: str) -> Response:
    return _pdf(user, number, "attachment")


@_routes.get("/invoices/{number}/view")
async def view(user: User, number: str) -> Response:
    return _pdf(user, number, "inline")


def _pdf(user: str, number: str, disposition: str) -> Response:
    invoice = invoice_by_number(number)
    if invoice is None:
        raise _MissingError(user, f"There is no invoice with the number {number}.")
    return Response(
        invoice_pdf(invoice),
        media_type="application/pdf",
        headers={"Content-Disposition": f'{disposition}; filename="{invoice.file_name}"'},
    )


def _same(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())


def _own_path(target: str) -> str:
    """Where to go after signing in: a path of this portal, never another site."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
