"""The browser hand against a real Chromium and a real HTTP server."""

from __future__ import annotations

import asyncio
import html
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import pytest
import pytest_asyncio

from cpa.artifacts.folder import FolderArtifacts
from cpa.core.classes import FailureClass
from cpa.errors import NotFound
from cpa.executors.redaction import redact_text
from cpa.executors.registry import ExecutorRegistry
from cpa.executors.web.browser import find_browser
from cpa.executors.web.executor import PlaywrightExecutor
from cpa.ports.artifacts import Artifact
from cpa.ports.executor import ActionError, ActionRequest, ExecutionResult, Verdict
from cpa.security.addresses import AddressGuard

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PASSWORD = 'geh"eim & größe/7'
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 2000
TIMEOUT = 20.0
"""Enough for a loaded machine; situations that are about time say their own."""


class Vault:
    """Secrets in memory, by the contract of `ports.secrets`."""

    def __init__(self, **values: str) -> None:
        self._values = values
        self._given: set[str] = set()

    def resolve(self, tenant: str, name: str) -> str:
        if name not in self._values:
            raise NotFound(f"the secret '{name}' is not set", remedy="set it")
        self._given.add(self._values[name])
        return self._values[name]

    def known(self, tenant: str) -> frozenset[str]:
        return frozenset(self._given)


@dataclass
class Portal:
    """A portal with a sign-in, whose pages the tests set. Counts what it is asked."""

    pages: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    posted: list[dict[str, list[str]]] = field(default_factory=list)
    release: Event = field(default_factory=Event)
    port: int = 0
    closed_port: int = 0
    """Nobody listens here."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def page(self, body: str) -> str:
        path = f"/p/{uuid.uuid4().hex}"
        self.pages[path] = f"<!doctype html><html><head><title>Seite</title></head><body>{body}</body></html>"
        return self.url + path

    def wait(self) -> None:
        """Never answer while the tests run."""
        self.release.wait(60)

    def answer(self, respond: Callable[[BaseHTTPRequestHandler], None]) -> str:
        path = f"/a/{uuid.uuid4().hex}"
        self.answers[path] = respond
        return self.url + path


def send(
    handler: BaseHTTPRequestHandler,
    body: bytes | str,
    status: int = 200,
    media_type: str = "text/html; charset=utf-8",
    **headers: str,
) -> None:
    content = body.encode() if isinstance(body, str) else body
    handler.send_response(status)
    handler.send_header("Content-Type", media_type)
    handler.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


LOGIN = """<!doctype html><title>Anmeldung</title><h1>Portal</h1>
<form method=post action=/login>
<label>Name <input name=user></label><label>Kennwort <input name=password id=pw type=password></label>
<button>Anmelden</button></form>"""


def handler_of(portal: Portal) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def signed_in(self) -> bool:
            return "session=ok" in (self.headers.get("Cookie") or "")

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            portal.asked.append(path)
            if path in portal.answers:
                portal.answers[path](self)
            elif path in portal.pages:
                send(self, portal.pages[path])
            elif path == "/login":
                send(self, LOGIN)
            elif path == "/home":
                if self.signed_in():
                    send(
                        self, "<!doctype html><title>Start</title><h1>Willkommen</h1><input id=q><input id=w>"
                    )
                else:
                    send(self, "", 302, Location="/login")
            elif path == "/rechnung.pdf":
                send(self, PDF, media_type="application/pdf")
            else:
                send(self, "nothing here", 404)

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            portal.asked.append(path)
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
            portal.posted.append(form)
            if path in portal.answers:
                portal.answers[path](self)
            elif form.get("password") == [PASSWORD]:
                send(self, "", 303, Location="/home", Set_Cookie="session=ok; Path=/; HttpOnly")
            else:
                send(self, "<!doctype html><title>Anmeldung</title><p id=error>Kennwort falsch</p>")

    return Handler


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    portal = Portal()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(portal))
    server.daemon_threads = True
    portal.port = server.server_address[1]
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    portal.closed_port = closed.getsockname()[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield portal
    portal.release.set()
    closed.close()
    server.shutdown()
    server.server_close()
    thread.join(10)


@dataclass
class Hand:
    """The executor with what surrounds it."""

    executor: PlaywrightExecutor
    artifacts: FolderArtifacts
    state: Path
    traces: dict[str, Artifact]

    async def do(
        self,
        action: str,
        job: str = "job",
        timeout: float = TIMEOUT,
        tainted: tuple[str, ...] = (),
        **arguments: Any,
    ) -> ExecutionResult:
        return await self.executor.execute(
            ActionRequest(
                tenant="acme",
                job=job,
                task=action.replace(".", "-"),
                action=action,
                arguments=arguments,
                timeout=timeout,
                tainted=frozenset(tainted),
            )
        )

    async def ok(self, action: str, job: str = "job", **arguments: Any) -> dict[str, Any]:
        result = await self.do(action, job, **arguments)
        assert result.success, result.error
        return dict(result.result)

    async def fails(self, action: str, job: str = "job", **arguments: Any) -> ActionError:
        result = await self.do(action, job, **arguments)
        assert result.error is not None, result.result
        return result.error

    async def content(self, reference: dict[str, Any]) -> bytes:
        return await self.artifacts.read("acme", reference["artifact"])


def require_browser() -> None:
    if find_browser() is None:
        pytest.fail(
            "These tests drive a real browser: apt-get install -y --no-install-recommends "
            "chromium-headless-shell fonts-dejavu-core"
        )


@asynccontextmanager
async def hand_in(folder: Path, portal: Portal, **options: Any) -> AsyncIterator[Hand]:
    require_browser()
    artifacts = FolderArtifacts(folder / "artifacts", 64 * 1024 * 1024)
    traces: dict[str, Artifact] = {}

    async def kept(tenant: str, job: str, artifact: Artifact) -> None:
        traces[job] = artifact

    settings: dict[str, Any] = {"state_dir": folder / "sessions", "trace_kept": kept} | options
    executor = PlaywrightExecutor(
        artifacts,
        Vault(portal_password=PASSWORD, short="ab"),
        AddressGuard([f"127.0.0.1:{portal.port}", f"127.0.0.1:{portal.closed_port}"]),
        **settings,
    )
    try:
        yield Hand(executor, artifacts, folder / "sessions", traces)
    finally:
        await executor.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, portal: Portal) -> AsyncIterator[Hand]:
    async with hand_in(tmp_path_factory.mktemp("web"), portal, trace=False) as hand:
        yield hand


@pytest_asyncio.fixture(loop_scope="module")
async def hand(shared: Hand) -> AsyncIterator[Hand]:
    """The shared browser, with the job `job` new."""
    yield shared
    await shared.executor.job_ended("acme", "job")


async def sign_in(hand: Hand, portal: Portal, job: str = "job") -> None:
    await hand.ok("web.goto", job, url=portal.url + "/login")
    await hand.ok("web.fill", job, selector="input[name=user]", text="Jürgen")
    await hand.ok("web.fill", job, selector="#pw", text={"secret": "portal_password"})
    await hand.ok("web.click", job, selector='role=button[name="Anmelden"]')
    await hand.ok("web.wait_for", job, text="Willkommen")


# -- the way through -----------------------------------------------------------------------------------------


async def test_sign_in_and_read_in_one_context(hand: Hand, portal: Portal) -> None:
    page = await hand.ok("web.goto", url=portal.url + "/login")
    assert page == {"url": portal.url + "/login", "title": "Anmeldung"}
    assert await hand.ok("web.fill", selector="xpath=//input[@name='user']", text="Jürgen") == {}
    await hand.ok("web.fill", selector="css=#pw", text={"secret": "portal_password"})
    clicked = await hand.ok("web.click", selector="text=Anmelden")
    assert clicked == {"url": portal.url + "/home"}
    assert portal.posted[-1] == {"user": ["Jürgen"], "password": [PASSWORD]}
    assert (await hand.ok("web.extract", selector="h1"))["value"] == "Willkommen"
    assert (await hand.ok("web.extract", selector="body", what="title"))["value"] == "Start"


async def test_two_jobs_share_nothing_but_the_browser(hand: Hand, portal: Portal) -> None:
    await sign_in(hand, portal)
    other = await hand.ok("web.goto", "other", url=portal.url + "/home")
    assert other["url"] == portal.url + "/login"
    assert (await hand.ok("web.extract", what="url"))["value"] == portal.url + "/home"
    await hand.executor.job_ended("acme", "other")


async def test_a_list_is_chosen_by_label_or_value(hand: Hand, portal: Portal) -> None:
    await hand.ok(
        "web.goto",
        url=portal.page("<select id=s><option value=a>Äpfel<option value=b>Birnen</select>"),
    )
    await hand.ok("web.select", selector="#s", value="Birnen")
    assert (await hand.ok("web.extract", selector="#s"))["value"] == "Birnen"
    await hand.ok("web.select", selector="#s", value="a")
    assert (await hand.ok("web.extract", selector="#s"))["value"] == "Äpfel"
    error = await hand.fails("web.select", selector="#s", value="Kirschen")
    assert (error.failure, error.code) == (FailureClass.BUSINESS, "option_missing")
    assert "Birnen" in error.remedy


async def test_extract_reads_every_kind(hand: Hand, portal: Portal) -> None:
    url = portal.page(
        "<ul><li>eins</li><li>zwei</li></ul><a id=l href=/x.pdf>x</a><input id=i value=wert>"
        "<table id=t><tr><th>Nr</th><th>Betrag</th></tr><tr><td>1</td><td>12,50 €</td></tr></table>"
        "<table id=plain><tr><td>a</td><td>b</td></tr></table>"
    )
    await hand.ok("web.goto", url=url)
    assert await hand.ok("web.extract", selector="li", what="texts") == {
        "values": ["eins", "zwei"],
        "url": url,
    }
    assert await hand.ok("web.extract", selector="li", what="count") == {"count": 2, "url": url}
    assert (await hand.ok("web.extract", selector="#l", what="attribute", attribute="href"))[
        "value"
    ] == "/x.pdf"
    assert (await hand.ok("web.extract", selector="#i"))["value"] == "wert"
    table = await hand.ok("web.extract", selector="#t", what="table")
    assert table["values"] == [{"Nr": "1", "Betrag": "12,50 €"}]
    assert (await hand.ok("web.extract", selector="#plain", what="table"))["values"] == [["a", "b"]]
    missing = await hand.fails("web.extract", selector="#l", what="attribute", attribute="title")
    assert (missing.failure, missing.code) == (FailureClass.BUSINESS, "attribute_missing")
    assert (await hand.fails("web.extract", selector="#l", what="smell")).code == "bad_argument"


async def test_half_characters_and_endless_titles_are_no_defect(hand: Hand, portal: Portal) -> None:
    url = portal.page(
        "<p id=p></p><script>p.textContent = '\\ud800x'; document.title = 'A'.repeat(5e6)</script>"
    )
    assert len((await hand.ok("web.goto", url=url))["title"]) == 1000
    assert (await hand.ok("web.extract", selector="#p"))["value"][1:] == "x"


async def test_a_large_result_becomes_an_artifact(hand: Hand, portal: Portal) -> None:
    text = "Zeile mit Ümlaut " * 2000
    await hand.ok("web.goto", url=portal.page(f"<p id=long>{text}</p>"))
    reference = (await hand.ok("web.extract", selector="#long"))["value"]
    assert reference["media_type"] == "text/plain"
    assert (await hand.content(reference)).decode() == text.strip()


# -- files ---------------------------------------------------------------------------------------------------


async def test_a_pdf_by_address_leaves_the_page_where_it_is(hand: Hand, portal: Portal) -> None:
    await sign_in(hand, portal)
    result = await hand.do("web.download", url=portal.url + "/rechnung.pdf", media_type="application/pdf")
    assert result.success, result.error
    file = result.result["file"]
    assert (file["name"], file["media_type"], file["size"]) == ("rechnung.pdf", "application/pdf", len(PDF))
    assert await hand.content(file) == PDF
    assert file["artifact"] in result.artifacts
    assert (await hand.ok("web.extract", what="url"))["value"] == portal.url + "/home"


@pytest.mark.parametrize("target", ["", "target=_blank", "download=Umsätze.pdf"])
async def test_a_pdf_by_click(hand: Hand, portal: Portal, target: str) -> None:
    url = portal.page(f"<a href=/rechnung.pdf {target}>PDF</a>")
    await hand.ok("web.goto", url=url)
    file = (await hand.ok("web.download", selector="text=PDF", media_type="application/pdf"))["file"]
    assert await hand.content(file) == PDF
    assert file["name"] == ("Umsätze.pdf" if "download" in target else "rechnung.pdf")
    assert (await hand.ok("web.extract", what="url"))["value"] == url


def browsers() -> list[str]:
    """Every kind of Chromium on this machine: they treat a PDF differently."""
    return [name for name in ("chromium-headless-shell", "chromium", "google-chrome") if shutil.which(name)]


@pytest.mark.parametrize("browser", browsers() or ["chromium-headless-shell"])
async def test_a_pdf_is_the_same_in_every_browser(tmp_path: Path, portal: Portal, browser: str) -> None:
    async with hand_in(tmp_path, portal, browser_path=browser) as hand:
        url = portal.page("<a href=/rechnung.pdf>eins</a><a href=/rechnung.pdf target=_blank>zwei</a>")
        await hand.ok("web.goto", url=url)
        for how in (
            {"url": portal.url + "/rechnung.pdf"},
            {"selector": "text=eins"},
            {"selector": "text=zwei"},
        ):
            file = (await hand.ok("web.download", media_type="application/pdf", **how))["file"]
            assert await hand.content(file) == PDF
            assert (await hand.ok("web.extract", selector="a", what="count"))["url"] == url


async def test_an_attachment_keeps_the_name_the_portal_gives(hand: Hand, portal: Portal) -> None:
    url = portal.answer(
        lambda handler: send(
            handler,
            b"a;b\n",
            media_type="text/csv",
            Content_Disposition="attachment; filename*=UTF-8''%C3%9Cbersicht%202026.csv",
        )
    )
    file = (await hand.ok("web.download", url=url))["file"]
    assert (file["name"], file["media_type"]) == ("Übersicht 2026.csv", "text/csv")


@pytest.mark.parametrize(
    ("body", "code", "failure"),
    [
        (LOGIN, "wrong_media_type", FailureClass.BUSINESS),
        ("", "empty_download", FailureClass.TECHNICAL),
    ],
)
async def test_what_is_not_the_file_is_found_out(
    hand: Hand, portal: Portal, body: str, code: str, failure: FailureClass
) -> None:
    url = portal.answer(lambda handler: send(handler, body, media_type="application/pdf"))
    error = await hand.fails("web.download", url=url, media_type="application/pdf")
    assert (error.code, error.failure) == (code, failure)


async def test_a_link_that_leads_to_an_error_page_is_no_download(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.page("<a href=/gone.pdf>PDF</a><a href=/login>Login</a>"))
    error = await hand.fails("web.download", selector="text=PDF")
    assert (error.failure, error.code) == (FailureClass.BUSINESS, "portal_refused")
    assert (await hand.fails("web.download", url=portal.url + "/gone.pdf")).code == "portal_refused"


async def test_a_click_that_starts_no_download_says_so(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.page("<button>nichts</button>"))
    error = await hand.fails("web.download", selector="button", timeout=2.0)
    assert (error.failure, error.code) == (FailureClass.TECHNICAL, "no_download")


async def test_a_download_that_breaks_off_is_technical(hand: Hand, portal: Portal) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/pdf")
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(PDF[:1000])
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)

    error = await hand.fails("web.download", url=portal.answer(cut))
    assert (error.failure, error.code) == (FailureClass.TECHNICAL, "download_failed")


# -- what goes wrong -----------------------------------------------------------------------------------------


async def test_an_ambiguous_selector_is_not_tried_again(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.page("<button>OK</button><button>OK</button>"))
    for action in ("web.click", "web.extract"):
        error = await hand.fails(action, selector="text=OK")
        assert (error.failure, error.code) == (FailureClass.BUSINESS, "selector_ambiguous")
        assert error.details["count"] == 2


async def test_a_malformed_selector_is_named(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.page("<p>"))
    for selector in ("css=[[", "xpath=//[", "nosuch=engine", 'role=button[name="'):
        for action in ("web.click", "web.wait_for", "web.extract"):
            error = await hand.fails(action, selector=selector)
            assert (error.failure, error.code) == (FailureClass.BUSINESS, "selector_invalid"), (action, error)


async def test_a_bad_argument_is_named(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.page("<p>"))
    bad: list[tuple[str, str, dict[str, Any]]] = [
        ("web.click", "selector", {"selector": ""}),
        ("web.click", "selector", {"selector": 7}),
        ("web.click", "selector", {}),
        ("web.goto", "url", {}),
        ("web.goto", "url", {"url": ["x"]}),
        ("web.fill", "text", {"selector": "p", "text": {"other": 1}}),
        ("web.wait_for", "state", {"selector": "p", "state": "happy"}),
        ("web.wait_for", "unless", {"selector": "p", "unless": "p"}),
        ("web.wait_for", "selector", {}),
        ("web.download", "selector", {}),
        ("web.screenshot", "full_page", {"full_page": "yes"}),
    ]
    for action, name, arguments in bad:
        error = await hand.fails(action, **arguments)
        assert (error.failure, error.code) == (FailureClass.BUSINESS, "bad_argument"), (action, arguments)
        assert error.message.startswith(f"{name}: ")


async def test_what_is_not_there_names_what_is(hand: Hand, portal: Portal) -> None:
    await hand.ok(
        "web.goto", url=portal.page("<button>Rechnungen anzeigen</button><button>Abmelden</button>")
    )
    result = await hand.do("web.click", selector='role=button[name="Rechnung zeigen"]', timeout=2.0)
    assert result.error is not None
    assert (result.error.failure, result.error.code) == (FailureClass.TECHNICAL, "selector_not_found")
    assert "Rechnungen anzeigen" in result.error.details["candidates"][0]
    assert "Rechnungen anzeigen" in result.error.remedy
    assert len(result.artifacts) == 1
    assert result.duration < 2.0


async def test_a_covered_button_was_not_clicked(hand: Hand, portal: Portal) -> None:
    url = portal.page(
        "<button onclick='document.title=1'>OK</button>"
        "<div style='position:fixed;inset:0;background:#eee'>Cookies?</div>"
    )
    await hand.ok("web.goto", url=url)
    error = await hand.fails("web.click", selector="button", timeout=2.0)
    assert (error.failure, error.code) == (FailureClass.TECHNICAL, "not_actionable")
    assert (await hand.ok("web.extract", what="title"))["value"] == "Seite"


async def test_a_step_needs_a_page(hand: Hand) -> None:
    error = await hand.fails("web.click", selector="text=OK")
    assert (error.failure, error.code) == (FailureClass.BUSINESS, "session_lost")


async def test_an_unknown_secret_is_named(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.url + "/login")
    error = await hand.fails("web.fill", selector="#pw", text={"secret": "nobody"})
    assert (error.failure, error.code) == (FailureClass.BUSINESS, "secret_missing")
    assert "nobody" in error.message


async def test_an_error_page_is_no_success(hand: Hand, portal: Portal) -> None:
    for status, failure, code in (
        (500, FailureClass.TECHNICAL, "portal_error"),
        (503, FailureClass.TECHNICAL, "portal_error"),
        (429, FailureClass.TECHNICAL, "portal_error"),
        (404, FailureClass.BUSINESS, "portal_refused"),
        (403, FailureClass.BUSINESS, "portal_refused"),
    ):
        url = portal.answer(partial(send, body="no", status=status))
        error = await hand.fails("web.goto", url=url)
        assert (error.failure, error.code, error.details["status"]) == (failure, code, status)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_portal_that_is_down_is_technical_with_a_remedy(
    hand: Hand, portal: Portal, scheme: str
) -> None:
    error = await hand.fails("web.goto", url=f"{scheme}://127.0.0.1:{portal.closed_port}/")
    assert (error.failure, error.code) == (FailureClass.TECHNICAL, "portal_unreachable")
    assert "refused" in error.message
    assert error.remedy


async def test_a_page_that_never_answers_is_cut_off_in_time(hand: Hand, portal: Portal) -> None:
    url = portal.answer(lambda handler: portal.wait())
    await hand.ok("web.goto", url=portal.page("<p>"))
    result = await hand.do("web.goto", url=url, timeout=2.0)
    assert result.error is not None
    assert (result.error.failure, result.error.code) == (FailureClass.TECHNICAL, "timeout")
    assert result.duration < 2.0


async def test_a_file_is_no_page(hand: Hand, portal: Portal) -> None:
    error = await hand.fails("web.goto", url=portal.url + "/rechnung.pdf")
    assert (error.failure, error.code) == (FailureClass.BUSINESS, "is_download")
    assert "web.download" in error.remedy


# -- clicks and their outcome --------------------------------------------------------------------------------


async def test_a_click_whose_answer_does_not_come_is_unknown(hand: Hand, portal: Portal) -> None:
    slow = urlsplit(portal.answer(lambda handler: portal.wait())).path
    await hand.ok(
        "web.goto", url=portal.page(f"<form method=post action={slow}><button>Kaufen</button></form>")
    )
    before = len(portal.posted)
    result = await hand.do("web.click", selector="text=Kaufen", timeout=3.0)
    assert result.error is not None
    assert result.error.failure is FailureClass.UNKNOWN_OUTCOME
    assert result.duration < 3.0
    assert len(portal.posted) == before + 1


@pytest.mark.parametrize("broken", ["error", "cut"])
async def test_a_click_whose_navigation_fails_is_unknown(hand: Hand, portal: Portal, broken: str) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        if broken == "error":
            send(handler, "oops", 500)
        else:
            handler.connection.shutdown(socket.SHUT_RDWR)

    path = urlsplit(portal.answer(respond)).path
    await hand.ok(
        "web.goto", url=portal.page(f"<form method=post action={path}><button>Kaufen</button></form>")
    )
    error = await hand.fails("web.click", selector="text=Kaufen")
    assert error.failure is FailureClass.UNKNOWN_OUTCOME


async def test_a_question_of_the_page_is_answered_no_and_told(hand: Hand, portal: Portal) -> None:
    url = portal.page(
        "<button onclick=\"if(confirm('Wirklich löschen?')) document.title='weg'\">Löschen</button>"
        "<a href='#' onclick=\"alert('Hinweis')\">Info</a>"
    )
    await hand.ok("web.goto", url=url)
    error = await hand.fails("web.click", selector="text=Löschen")
    assert (error.failure, error.code) == (FailureClass.BUSINESS, "dialog_dismissed")
    assert "Wirklich löschen?" in error.message
    assert (await hand.ok("web.extract", what="title"))["value"] == "Seite"
    told = await hand.ok("web.click", selector="text=Info")
    assert told["dialogs"] == [{"type": "alert", "message": "Hinweis"}]


async def test_a_new_window_comes_to_the_front_and_goes(hand: Hand, portal: Portal) -> None:
    inner = urlsplit(portal.page("<h1>Neu</h1><button onclick=window.close()>Zu</button>")).path
    url = portal.page(f"<h1>Alt</h1><a href={inner} target=_blank rel=opener>Öffnen</a>")
    await hand.ok("web.goto", url=url)
    assert (await hand.ok("web.click", selector="text=Öffnen"))["url"] == portal.url + inner
    assert (await hand.ok("web.extract", selector="h1"))["value"] == "Neu"
    await hand.ok("web.click", selector="text=Zu")
    await hand.ok("web.wait_for", text="Alt")
    assert (await hand.ok("web.extract", selector="h1"))["value"] == "Alt"


async def test_a_page_that_a_click_closes_was_clicked(hand: Hand, portal: Portal) -> None:
    inner = urlsplit(portal.page("<button onclick=window.close()>Zu</button>")).path
    await hand.ok("web.goto", url=portal.page(f"<a href={inner} target=_blank rel=opener>Öffnen</a>"))
    for _ in range(10):
        await hand.ok("web.click", selector="text=Öffnen")
        await hand.ok("web.click", selector="text=Zu")
        await hand.ok("web.wait_for", text="Öffnen")


async def test_a_page_that_goes_before_it_is_pressed_leaves_the_click_in_doubt(
    hand: Hand, portal: Portal
) -> None:
    """It closes itself when the mouse comes near: nobody knows what else that did."""
    inner = urlsplit(portal.page("<button onmousemove=window.close()>Zu</button>")).path
    await hand.ok("web.goto", url=portal.page(f"<a href={inner} target=_blank rel=opener>Öffnen</a>"))
    await hand.ok("web.click", selector="text=Öffnen")
    error = await hand.fails("web.click", selector="text=Zu")
    assert error.failure in (FailureClass.ENVIRONMENT, FailureClass.UNKNOWN_OUTCOME)


async def test_a_window_to_a_forbidden_address_is_refused(hand: Hand, portal: Portal) -> None:
    with socket.socket() as inner:
        inner.bind(("127.0.0.1", 0))
        inner.listen()
        inner.setblocking(False)
        for scheme in ("http", "https"):
            forbidden = f"{scheme}://127.0.0.1:{inner.getsockname()[1]}/geheim"
            redirect = portal.answer(lambda handler, to=forbidden: send(handler, "", 302, Location=to))  # type: ignore[misc]
            for address in (forbidden, redirect):
                await hand.ok("web.goto", url=portal.page(f"<a href={address} target=_blank>weiter</a>"))
                error = await hand.fails("web.click", selector="text=weiter")
                assert (error.failure, error.code) == (FailureClass.POLICY, "address_refused"), address
        with pytest.raises(BlockingIOError):
            inner.accept()


async def test_a_window_that_breaks_leaves_the_click_in_doubt(hand: Hand, portal: Portal) -> None:
    path = urlsplit(portal.answer(lambda handler: send(handler, "oops", 500))).path
    form = f"<form method=post target=_blank action={path}><button>Kaufen</button></form>"
    await hand.ok("web.goto", url=portal.page(form))
    error = await hand.fails("web.click", selector="text=Kaufen")
    assert (error.failure, error.code) == (FailureClass.UNKNOWN_OUTCOME, "portal_error")


async def test_a_page_cannot_open_windows_without_end(tmp_path: Path, portal: Portal) -> None:
    flood = "for (let i = 0; i < 40; i++) window.open('about:blank')"
    async with hand_in(tmp_path, portal, trace=False, pictures=False) as hand:
        await hand.ok("web.goto", url=portal.page(f'<button onclick="{flood}">viele</button>'))
        error = await hand.fails("web.click", selector="text=viele")
        assert (error.failure, error.code) == (FailureClass.BUSINESS, "too_many_windows")


async def test_verification_never_claims_that_a_click_did_not_happen(hand: Hand) -> None:
    def request(action: str) -> ActionRequest:
        return ActionRequest(tenant="acme", job="job", task="t", action=action)

    assert (await hand.executor.verify(request("web.click"))).verdict is Verdict.UNKNOWN
    assert (await hand.executor.verify(request("web.download"))).verdict is Verdict.ABSENT


# -- waiting -------------------------------------------------------------------------------------------------


async def test_waiting_sees_what_comes_later(hand: Hand, portal: Portal) -> None:
    url = portal.page(
        "<p id=busy>lädt</p><script>setTimeout(() => { busy.remove(); "
        "document.body.insertAdjacentHTML('beforeend', '<p id=done>fertig</p>') }, 300)</script>"
    )
    await hand.ok("web.goto", url=url)
    await hand.ok("web.wait_for", selector="#done")
    await hand.ok("web.wait_for", selector="#busy", state="hidden")
    await hand.ok("web.wait_for", selector="#busy", state="detached")
    await hand.ok("web.wait_for", text="fertig")
    await hand.ok("web.wait_for", url=url)
    await hand.ok("web.wait_for", url="/p/*")
    error = await hand.fails("web.wait_for", url="/q/*", timeout=1.0)
    assert error.failure is FailureClass.TECHNICAL
    assert (await hand.fails("web.wait_for", text="nie", timeout=1.0)).code == "selector_not_found"


async def test_a_refusal_of_the_portal_ends_the_waiting_at_once(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.url + "/login")
    await hand.ok("web.fill", selector="#pw", text="falsch")
    await hand.ok("web.click", selector="text=Anmelden")
    result = await hand.do(
        "web.wait_for",
        text="Willkommen",
        unless=[
            {"selector": "#locked", "code": "account_locked"},
            {"selector": "#error", "code": "login_refused", "remedy": "Set the secret portal_password anew."},
        ],
    )
    assert result.error is not None
    assert (result.error.failure, result.error.code) == (FailureClass.BUSINESS, "login_refused")
    assert "Kennwort falsch" in result.error.message
    assert result.error.remedy.startswith("Set the secret")
    assert result.duration < TIMEOUT / 2


async def test_a_refusal_names_what_there_was_to_choose_from(hand: Hand, portal: Portal) -> None:
    many = "".join(f"<li><a href=#>Müller \n &quot;{number}&quot; AG</a></li>" for number in range(7))
    await hand.ok("web.goto", url=portal.page(f"<ul>{many}</ul>"))
    sign = {
        "selector": "li:nth-child(2)",
        "code": "ambiguous",
        "message": "{names}",
        "remedy": 'Say "{name}".',
    }
    error = await hand.fails("web.wait_for", text="nie", unless=[sign | {"names": "li a"}])
    listed = ", ".join(f'"Müller {number} AG"' for number in range(5))
    assert (error.message, error.remedy) == (f"{listed} …", 'Say "Müller 0 AG".')
    none = await hand.fails("web.wait_for", text="nie", unless=[sign | {"names": "table"}])
    assert (none.message, none.remedy) == ("-", 'Say "…".')


# -- where it may go -----------------------------------------------------------------------------------------


async def test_a_forbidden_address_is_refused_before_anything_is_asked(hand: Hand) -> None:
    for url in (
        "file:///etc/passwd",
        "chrome://version",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://0x7f.1/",
    ):
        for action in ("web.goto", "web.download"):
            error = await hand.fails(action, url=url)
            assert (error.failure, error.code) == (FailureClass.POLICY, "address_refused"), (action, url)


@pytest.mark.parametrize("way", ["redirect", "click", "download", "script", "frame"])
async def test_no_page_leads_to_a_forbidden_address(hand: Hand, portal: Portal, way: str) -> None:
    """Another port of the same machine stands for the private network; it would notice a visit."""
    with socket.socket() as inner:
        inner.bind(("127.0.0.1", 0))
        inner.listen()
        inner.setblocking(False)
        forbidden = f"http://127.0.0.1:{inner.getsockname()[1]}/geheim"
        redirect = portal.answer(lambda handler: send(handler, "", 302, Location=forbidden))
        if way == "redirect":
            error = await hand.fails("web.goto", url=redirect)
            assert (error.failure, error.code) == (FailureClass.POLICY, "address_refused")
        elif way == "download":
            error = await hand.fails("web.download", url=redirect)
            assert (error.failure, error.code) == (FailureClass.POLICY, "address_refused")
        elif way == "click":
            await hand.ok("web.goto", url=portal.page(f"<a href={urlsplit(redirect).path}>weiter</a>"))
            error = await hand.fails("web.click", selector="text=weiter")
            assert (error.failure, error.code) == (FailureClass.POLICY, "address_refused")
        elif way == "frame":
            await hand.ok("web.goto", url=portal.page(f"<iframe src={forbidden}></iframe><p>da</p>"))
            await hand.ok("web.wait_for", text="da")
        else:
            url = portal.page(
                f"<p id=out>…</p><script>fetch('{forbidden}', {{mode: 'no-cors'}}).then(r => "
                f"out.textContent = 'Antwort ' + r.status, e => out.textContent = 'Fehler');"
                f"new WebSocket('{forbidden.replace('http', 'ws')}').onerror = () => document.title = 'zu'</script>"
            )
            await hand.ok("web.goto", url=url)
            await hand.ok("web.wait_for", selector="text=/Antwort 0|Fehler/")
            deadline = time.monotonic() + 10
            while (await hand.ok("web.extract", what="title"))["value"] != "zu":
                assert time.monotonic() < deadline
        with pytest.raises(BlockingIOError):
            inner.accept()


async def test_text_from_outside_chooses_nothing(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.url + "/login")
    error = await hand.fails("web.goto", url=portal.url + "/login", tainted=("url",))
    assert (error.failure, error.code) == (FailureClass.POLICY, "tainted_argument")
    await hand.ok("web.fill", selector="input[name=user]", text="aus einer Mail", tainted=("text",))


# -- pictures, traces, secrets -------------------------------------------------------------------------------


async def test_every_step_leaves_a_picture(hand: Hand, portal: Portal) -> None:
    result = await hand.do("web.goto", url=portal.url + "/login")
    assert len(result.artifacts) == 1
    assert (await hand.artifacts.read("acme", result.artifacts[0])).startswith(b"\xff\xd8")
    shot = await hand.ok("web.screenshot", full_page=True)
    assert (await hand.content(shot["file"])).startswith(b"\x89PNG")
    part = await hand.ok("web.screenshot", selector="h1")
    assert part["file"]["size"] < shot["file"]["size"]


async def test_a_field_with_a_secret_is_covered_also_when_it_shows_its_text(
    hand: Hand, portal: Portal
) -> None:
    url = portal.page(
        "<input id=open style='width:400px;height:60px;border:0;outline:0;caret-color:transparent'>"
    )

    async def picture(text: object) -> bytes:
        await hand.ok("web.fill", selector="#open", text=text)
        return await hand.content((await hand.ok("web.screenshot", selector="#open"))["file"])

    await hand.ok("web.goto", url=url)
    plain, other = await picture("sichtbar"), await picture("x")
    assert plain != other
    covered = await picture({"secret": "portal_password"})
    assert covered not in (plain, other)
    assert covered == await picture("etwas ganz anderes"), "the cover must hide what the field holds"


async def test_no_entry_of_the_trace_holds_the_secret(tmp_path: Path, portal: Portal) -> None:
    async with hand_in(tmp_path, portal) as hand:
        await sign_in(hand, portal)
        echo = portal.page(f"<p id=e>Ihr Kennwort: {PASSWORD}</p><input id=open>")
        await hand.ok("web.goto", url=echo)
        await hand.ok("web.fill", selector="#open", text={"secret": "portal_password"})
        said = (await hand.ok("web.extract", selector="#e"))["value"]
        assert said == "Ihr Kennwort: [secret]"
        missing = await hand.do("web.click", selector="#nirgends", timeout=2.0)
        assert PASSWORD not in repr(missing)
        await hand.executor.job_ended("acme", "job")
        content = await hand.artifacts.read("acme", hand.traces.pop("job").digest)

        # One too short to be told from ordinary text: then no trace is kept at all.
        await hand.ok("web.goto", url=portal.url + "/login")
        await hand.ok("web.fill", selector="#pw", text={"secret": "short"})
        await hand.executor.job_ended("acme", "job")
        assert hand.traces == {}
    with zipfile.ZipFile(BytesIO(content)) as trace:
        entries = {name: trace.read(name) for name in trace.namelist()}
    assert any(name.endswith(".trace") for name in entries)
    assert any(b"[secret]" in entry for entry in entries.values())
    spellings = [PASSWORD, json.dumps(PASSWORD)[1:-1], json.dumps(PASSWORD, ensure_ascii=False)[1:-1]]
    spellings += ["geh%22eim", "gr%C3%B6%C3%9Fe", "größe/7", "geh&quot;eim", 'geh\\"eim', 'geh"eim']
    for name, entry in entries.items():
        for spelling in spellings:
            assert spelling.encode() not in entry, (name, spelling)


# -- sessions ------------------------------------------------------------------------------------------------


async def test_a_secret_that_a_page_shows_again_stays_in_the_page(tmp_path: Path, portal: Portal) -> None:
    """Also after the process was replaced, which knows no more than the secret's name."""

    def echo(handler: BaseHTTPRequestHandler) -> None:
        said = html.escape(unquote_plus(urlsplit(handler.path).query))
        body = f"<title>{said}</title><button onclick='alert(document.title)'>Sag</button><p id=p>{said}</p>"
        send(
            handler,
            f"<!doctype html><meta charset=utf-8>{body}<a download={said!r} href=/rechnung.pdf>ab</a>",
        )

    path = urlsplit(portal.answer(echo)).path
    form = f"<form action={path}><input id=pw name=kennwort type=password><button>Los</button></form>"
    seen: list[object] = []
    async with hand_in(tmp_path, portal) as hand:
        await hand.ok("web.goto", url=portal.page(form))
        await hand.ok("web.fill", selector="#pw", text={"secret": "portal_password"})
        seen.append(await hand.ok("web.click", selector="text=Los"))
    async with hand_in(tmp_path, portal) as hand:
        seen += [await hand.ok("web.extract", what=what) for what in ("url", "title")]
        seen.append(await hand.ok("web.click", selector="text=Sag"))
        seen.append(await hand.ok("web.download", selector="text=ab"))
        seen.append(await hand.fails("web.wait_for", text="nirgends", timeout=2.0))
        refusal = {"selector": "#p", "code": "no"}
        seen.append(await hand.fails("web.wait_for", text="nirgends", unless=[refusal]))
        verify = ActionRequest(tenant="acme", job="job", task="t", action="web.click")
        seen.append(await hand.executor.verify(verify))
    for each in seen:
        assert redact_text(repr(each), [PASSWORD]) == repr(each)
        assert "[secret]" in repr(each)


async def test_a_chosen_secret_is_remembered_by_its_name(hand: Hand, portal: Portal) -> None:
    options = f"<option>a</option><option>{html.escape(PASSWORD)}</option>"
    await hand.ok(
        "web.goto", url=portal.page(f"<select id=s>{options}</select><select id=m multiple>{options}")
    )
    reference = {"secret": "portal_password"}
    await hand.ok("web.select", selector="#s", value=reference)
    await hand.ok("web.select", selector="#m", value=["a", reference])
    (file,) = hand.state.iterdir()
    saved = json.loads(file.read_text())
    assert [each["value"] for each in saved["inputs"]] == [[reference], ["a", reference]]
    assert PASSWORD not in json.dumps(saved, ensure_ascii=False)
    for value in (reference, [reference]):
        result = await hand.do("web.select", selector="#s", value=value, tainted=("value",))
        assert result.error is not None
        assert (result.error.failure, result.error.code) == (FailureClass.POLICY, "tainted_secret")


async def test_what_the_browser_writes_aside_is_private_and_goes(tmp_path: Path, portal: Portal) -> None:
    aside = tmp_path / "browser"

    def written() -> set[str]:
        return {path.suffix for path in aside.rglob("*") if path.is_file()}

    async def pages(hand: Hand, job: str) -> int:
        """How many pages the trace of this job holds."""
        content = await hand.artifacts.read("acme", hand.traces[job].digest)
        return sum(name.endswith(".html") for name in zipfile.ZipFile(BytesIO(content)).namelist())

    async with hand_in(tmp_path, portal, scratch_dir=aside) as hand:
        await sign_in(hand, portal, "a")
        (own,) = aside.iterdir()
        assert own.stat().st_mode & 0o777 == 0o700
        assert written() >= {".trace", ".network"}
        await sign_in(hand, portal, "b")
        await hand.executor.job_ended("acme", "a")
        assert len(list(aside.rglob("*.trace"))) == 1
        await hand.executor.job_ended("acme", "b")
        assert written() == {""}  # the lock
        await sign_in(hand, portal, "c")
        await hand.executor.job_ended("acme", "c")
        assert await pages(hand, "a") == await pages(hand, "b") == await pages(hand, "c") > 0
    assert list(aside.iterdir()) == []


async def test_a_download_without_end_is_cut_off(tmp_path: Path, portal: Portal) -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.end_headers()
        with suppress(OSError):
            while sent < 1 << 30:
                sent += handler.wfile.write(b"x" * 65536)
        handler.close_connection = True

    url = portal.answer(endless)
    async with hand_in(tmp_path, portal, max_download=1024 * 1024) as hand:
        error = await hand.fails("web.download", url=url)
        assert (error.failure, error.code) == (FailureClass.BUSINESS, "download_too_large")
        path = urlsplit(url).path
        await hand.ok("web.goto", url=portal.page(f"<a download href={path}>ab</a>"))
        error = await hand.fails("web.download", selector="text=ab")
        assert (error.failure, error.code) == (FailureClass.BUSINESS, "download_too_large")
        assert (await hand.ok("web.download", url=portal.url + "/rechnung.pdf"))["file"]["size"] == len(PDF)
    assert sent < 200 * 1024 * 1024


async def test_a_session_ends_with_its_job(hand: Hand, portal: Portal) -> None:
    await sign_in(hand, portal)
    assert list(hand.state.iterdir())
    await hand.executor.job_ended("acme", "job")
    assert not list(hand.state.iterdir())
    await hand.executor.job_ended("acme", "nobody")
    assert (await hand.ok("web.goto", url=portal.url + "/home"))["url"] == portal.url + "/login"


async def test_the_session_file_is_private_and_holds_no_secret(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.url + "/login")
    await hand.ok("web.fill", selector="#pw", text={"secret": "portal_password"})
    (file,) = hand.state.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    saved = json.loads(file.read_text())
    assert saved["inputs"] == [{"kind": "fill", "selector": "#pw", "value": {"secret": "portal_password"}}]
    assert PASSWORD not in file.read_text()


async def test_steps_of_one_job_take_turns(hand: Hand, portal: Portal) -> None:
    await hand.ok("web.goto", url=portal.page("<input id=a><input id=b>"))
    fills = [hand.ok("web.fill", selector=f"#{'ab'[i % 2]}", text=str(i)) for i in range(6)]
    await asyncio.gather(*fills)
    assert (await hand.ok("web.extract", selector="#a"))["value"] == "4"
    assert (await hand.ok("web.extract", selector="#b"))["value"] == "5"


async def test_a_job_without_a_free_context_waits_in_the_time_of_its_step(
    tmp_path: Path, portal: Portal
) -> None:
    async with hand_in(tmp_path, portal, max_contexts=1) as hand:
        await hand.ok("web.goto", "first", url=portal.url + "/login")
        error = await hand.fails("web.goto", "second", url=portal.url + "/login", timeout=1.5)
        assert (error.failure, error.code) == (FailureClass.ENVIRONMENT, "browser_busy")
        waiting = asyncio.create_task(hand.ok("web.goto", "second", url=portal.url + "/login"))
        await asyncio.sleep(0)
        await hand.executor.job_ended("acme", "first")
        assert (await waiting)["title"] == "Anmeldung"


async def test_a_context_lent_to_another_job_comes_back_as_it_was(tmp_path: Path, portal: Portal) -> None:
    async with hand_in(tmp_path, portal, max_contexts=1, spare_seconds=0.0) as hand:
        await sign_in(hand, portal, "first")
        await hand.ok("web.fill", "first", selector="#q", text="getippt")
        await hand.ok("web.goto", "second", url=portal.url + "/login")
        assert (await hand.ok("web.extract", "first", selector="#q"))["value"] == "getippt"


async def test_an_idle_context_is_closed(tmp_path: Path, portal: Portal) -> None:
    async with hand_in(tmp_path, portal, idle_minutes=0.2 / 60) as hand:
        await hand.ok("web.goto", url=portal.url + "/login")
        deadline = time.monotonic() + 15
        while "job" not in hand.traces:
            assert time.monotonic() < deadline, "the context was not closed"
            await asyncio.sleep(0.05)
        assert (await hand.ok("web.extract", what="title"))["value"] == "Anmeldung"


def descendants(parent: int) -> list[int]:
    """Every living descendant of a process, the deepest first."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = status.read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue  # ended while we looked
        if int(ppid) == parent and state != "Z":
            pid = int(status.parent.name)
            found += [*descendants(pid), pid]
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode()
    except OSError:
        return ""


@pytest.mark.parametrize("victim", ["chrom", "node"])
async def test_a_browser_that_dies_is_the_environments_fault_and_the_job_goes_on(
    tmp_path: Path, portal: Portal, victim: str
) -> None:
    before = set(descendants(os.getpid()))
    async with hand_in(tmp_path, portal) as hand:
        await sign_in(hand, portal)
        await hand.ok("web.fill", selector="#q", text="getippt")
        started = [pid for pid in descendants(os.getpid()) if pid not in before]
        doomed = [pid for pid in started if victim in Path(command(pid)).name]
        assert doomed, [command(pid) for pid in started]
        waiting = asyncio.create_task(hand.do("web.wait_for", selector="#nie"))
        await asyncio.sleep(0.3)
        for pid in doomed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it went with its parent
        result = await asyncio.wait_for(waiting, TIMEOUT)
        assert result.error is not None
        assert (result.error.failure, result.error.code) == (FailureClass.ENVIRONMENT, "browser_died")
        assert (await hand.ok("web.extract", selector="#q"))["value"] == "getippt"
        assert (await hand.ok("web.extract", selector="h1"))["value"] == "Willkommen"


async def test_no_browser_is_the_environments_fault_with_the_command_that_helps(
    tmp_path: Path, portal: Portal
) -> None:
    async with hand_in(tmp_path, portal, browser_path="/nowhere/chromium") as hand:
        error = await hand.fails("web.goto", url=portal.url + "/login")
        assert (error.failure, error.code) == (FailureClass.ENVIRONMENT, "browser_missing")
        assert "apt-get install chromium-headless-shell" in error.remedy
        assert "playwright install chromium" in error.remedy
    async with hand_in(tmp_path, portal, browser_path=shutil.which("false") or "") as hand:
        assert (await hand.fails("web.goto", url=portal.url + "/login")).code == "browser_failed"


async def test_through_the_registry_a_cancelled_step_leaves_the_session_usable(
    hand: Hand, portal: Portal
) -> None:
    registry = ExecutorRegistry([hand.executor])
    await hand.ok("web.goto", url=portal.url + "/login")
    waiting = asyncio.create_task(
        registry.dispatch(
            ActionRequest(
                tenant="acme", job="job", task="t", action="web.wait_for", arguments={"selector": "#nie"}
            )
        )
    )
    await asyncio.sleep(0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await hand.ok("web.extract", selector="h1"))["value"] == "Portal"


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.executors.test_web import Portal, hand_in, sign_in

async def main():
    portal = Portal(port=int(sys.argv[2]))
    async with hand_in(Path(sys.argv[1]), portal) as hand:
        await sign_in(hand, portal)
        await hand.ok("web.fill", selector="#q", text="Größe")
        await hand.ok("web.fill", selector="#w", text={"secret": "portal_password"})
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_job_survives_the_kill_of_its_process_between_two_steps(
    tmp_path: Path, portal: Portal
) -> None:
    require_browser()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), str(portal.port)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    with process.stdout as output:
        said = await asyncio.to_thread(lambda: next((x for x in output if x == b"ready\n"), b""))
    started = descendants(process.pid)
    process.kill()
    process.wait(10)
    assert said == b"ready\n"
    async with hand_in(tmp_path, portal) as hand:
        assert (await hand.ok("web.extract", selector="#q"))["value"] == "Größe"
        assert (await hand.ok("web.extract", selector="#w"))["value"] == "[secret]"
        assert (await hand.ok("web.extract", selector="h1"))["value"] == "Willkommen"
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < deadline, "the killed process left a browser behind"
        await asyncio.sleep(0.1)


async def test_a_session_that_ended_meanwhile_is_lost_and_says_so(tmp_path: Path, portal: Portal) -> None:
    async with hand_in(tmp_path, portal) as hand:
        await sign_in(hand, portal)
    (file,) = hand.state.iterdir()
    saved = json.loads(file.read_text())
    saved["storage"]["cookies"] = []
    file.write_text(json.dumps(saved))
    async with hand_in(tmp_path, portal) as hand:
        error = await hand.fails("web.extract", selector="h1")
        assert (error.failure, error.code) == (FailureClass.BUSINESS, "session_lost")
    file.write_text("{")
    async with hand_in(tmp_path, portal) as hand:
        assert (await hand.fails("web.extract", selector="h1")).code == "session_lost"
