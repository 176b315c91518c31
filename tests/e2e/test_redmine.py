"""A portal nobody here wrote: Redmine's issue list as PDF, by a sentence, into a colleague's mailbox.

Redmine, the mail servers and `cpa serve` are processes of their own; all that CPA knows of Redmine stands in the
workspace `tests/e2e/redmine`, plain configuration.
"""

from __future__ import annotations

import hashlib
import imaplib
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from string import Template
from typing import Any

import httpx2
import pytest
from pypdf import PdfReader
from tests.servers.dovecot import PASSWORD as MAIL_PASSWORD
from tests.servers.mail import MailServer
from tests.servers.redmine import PASSWORD, Redmine
from tests.servers.scheduler import Scheduler, serving
from tests.servers.smtp import USER

pytestmark = [pytest.mark.redmine, pytest.mark.browser, pytest.mark.mailserver, pytest.mark.timeout(300)]

WORKSPACE = Path(__file__).parent / "redmine"
RECIPIENT = "einkauf@kunde.example"
SENTENCES = {
    "en": f"Export the issue list of project Beschaffung as PDF from Redmine and mail it to {RECIPIENT}",
    "de": f"Exportiere die Ticketliste des Projekts Beschaffung als PDF aus Redmine und schicke sie an {RECIPIENT}",
}
ISSUES = (
    "Neue Bürostühle für das Büro Köln",
    "Toner für die Drucker im Erdgeschoß",
    "Prüfgeräte: Messschieber 150 mm",
)


@pytest.fixture(scope="module")
def redmine() -> Iterator[Redmine]:
    with Redmine() as running:
        running.create_project("Beschaffung", "beschaffung", ISSUES)
        running.create_project("Beschaffung Ausland", "ausland", ["Zollpapiere"])
        yield running


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    # Not below pytest's folder: each session closes that to others, and Dovecot's mail processes are others.
    with tempfile.TemporaryDirectory(prefix="cpa-test-mail-") as folder, MailServer(Path(folder)) as running:
        yield running


@contextmanager
def scheduler(folder: Path, redmine: Redmine, mail: MailServer, password: str) -> Iterator[Scheduler]:
    """`cpa serve` with the workspace, knowing this password of Redmine."""
    shutil.copy(WORKSPACE / "intents.yaml", folder)
    addresses = {
        "redmine": redmine.url,
        "redmine_address": f"127.0.0.1:{redmine.port}",
        "smtp": f"smtp://{USER}@127.0.0.1:{mail.smtp.port}",
        "imap": f"imap://cpa%40firma.example@127.0.0.1:{mail.dovecot.imap_port}",
    }
    template = Template((WORKSPACE / "cpa.yaml").read_text("utf-8"))
    (folder / "cpa.yaml").write_text(template.substitute(addresses), "utf-8")
    secrets = {"CPA_SECRET_REDMINE_PASSWORD": password, "CPA_SECRET_MAIL_PASSWORD": MAIL_PASSWORD}
    with serving(folder, "--workspace", str(folder), port=0, **secrets) as running:
        yield running


@pytest.fixture(scope="module")
def cpa(
    tmp_path_factory: pytest.TempPathFactory, redmine: Redmine, mail: MailServer
) -> Iterator[httpx2.Client]:
    with scheduler(tmp_path_factory.mktemp("cpa"), redmine, mail, PASSWORD) as server, client(server) as api:
        yield api


def client(server: Scheduler) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, headers={"X-API-Key": server.key}, timeout=150, trust_env=False)


def run(api: httpx2.Client, sentence: str) -> dict[str, Any]:
    """The job's detail after its end."""
    accepted = api.post("/schedule", json={"text": sentence})
    assert accepted.status_code == 201, accepted.text
    detail: dict[str, Any] = api.get(f"/jobs/{accepted.json()['job_id']}", params={"wait": 120}).json()
    return detail


def task(detail: dict[str, Any], name: str) -> dict[str, Any]:
    return next(task for task in detail["tasks"] if task["id"] == name)


def received(mail: MailServer, message_id: str) -> list[EmailMessage]:
    """Messages of this id in the recipient's mailbox, by IMAP."""
    with imaplib.IMAP4("127.0.0.1", mail.dovecot.imap_port, timeout=20) as mailbox:
        mailbox.login(RECIPIENT, MAIL_PASSWORD)
        mailbox.select("INBOX", readonly=True)
        _, numbers = mailbox.search(None, "HEADER", "Message-ID", f'"{message_id}"')
        found = []
        for number in numbers[0].split():
            _, parts = mailbox.fetch(number.decode(), "(BODY.PEEK[])")
            found += [
                message_from_bytes(part[1], policy=policy.default)
                for part in parts
                if isinstance(part, tuple)
            ]
    return [message for message in found if isinstance(message, EmailMessage)]


@pytest.mark.parametrize("language", SENTENCES)
def test_the_issue_list_arrives_as_pdf(cpa: httpx2.Client, mail: MailServer, language: str) -> None:
    detail = run(cpa, SENTENCES[language])
    assert detail["status"] == "done", detail["job"]["error"]

    sent, file = task(detail, "send")["result"], task(detail, "export")["result"]["file"]
    messages = received(mail, sent["message_id"])
    assert len(messages) == 1
    attachments = list(messages[0].iter_attachments())
    assert [part.get_filename() for part in attachments] == ["issues.pdf"]
    content = attachments[0].get_payload(decode=True)
    assert isinstance(content, bytes)

    assert file["artifact"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert cpa.get(f"/artifacts/{file['artifact']}").content == content
    assert mail.smtp.accepted()[sent["message_id"]] == 1
    text = PdfReader(io.BytesIO(content)).pages[0].extract_text()
    assert "Beschaffung" in text
    for subject in ISSUES:
        assert subject in text
    assert "Zollpapiere" not in text


def test_every_step_leaves_a_picture_in_the_audit_trail(cpa: httpx2.Client) -> None:
    detail = run(cpa, SENTENCES["de"])
    trail = cpa.get("/audit", params={"job": detail["job"]["id"], "limit": 500}).json()["entries"]
    pictured = {entry["task"] for entry in trail if entry["what"] == "task_succeeded" and entry["pictures"]}

    assert {task["id"] for task in detail["tasks"] if task["action"].startswith("web.")} <= pictured
    first = next(entry["pictures"][0] for entry in trail if entry["pictures"] and entry["task"] == "open")
    assert cpa.get(first["href"]).content.startswith(b"\xff\xd8\xff")


def test_a_project_that_is_not_there_fails_with_a_clear_reason_and_sends_nothing(
    cpa: httpx2.Client, mail: MailServer
) -> None:
    before = mail.smtp.accepted().total()
    detail = run(cpa, SENTENCES["en"].replace("Beschaffung", "Raumfahrt"))

    assert detail["status"] == "failed"
    assert task(detail, "project")["status"] == "failed"
    assert "Raumfahrt" in detail["job"]["error"]["message"]
    assert mail.smtp.accepted().total() == before


def test_a_wrong_password_is_a_business_failure_that_names_the_remedy(
    tmp_path: Path, redmine: Redmine, mail: MailServer
) -> None:
    before = mail.smtp.accepted().total()
    with scheduler(tmp_path, redmine, mail, "falsch") as server, client(server) as api:
        detail = run(api, SENTENCES["de"])

    error = detail["job"]["error"]
    assert detail["status"] == "failed"
    assert (error["failure"], error["code"]) == ("business", "login_refused")
    assert "redmine_password" in error["remedy"]
    assert task(detail, "signed_in")["epoch"] == 1
    assert mail.smtp.accepted().total() == before
