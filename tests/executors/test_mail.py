"""Mail against a real SMTP server with AUTH in front of a real Dovecot, with real faults.

The servers run for the whole module; every test sends under its own job id and to its own recipients, so
that no test sees the mail of another.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from typing import Any, Literal
from unittest.mock import create_autospec
from uuid import uuid4

import pytest
import trustme
from tests.servers.mail import MailServer
from tests.servers.ports import free_port
from tests.servers.smtp import Faults, SmtpServer

from cpa.artifacts.folder import FolderArtifacts
from cpa.core.classes import FailureClass
from cpa.errors import BadInput, NotFound
from cpa.executors.mail.executor import MAX_INLINE, MailExecutor
from cpa.executors.mail.imap import ImapMailbox
from cpa.executors.mail.smtp import MailAccount, SmtpImapMail, parse_endpoint
from cpa.ports.addresses import LookUp, not_resolved
from cpa.ports.artifacts import Artifact
from cpa.ports.executor import ActionRequest, ExecutionResult, Verdict
from cpa.ports.mail import MailPort, MailQuery, MailRefused, MailTrouble
from cpa.security.addresses import AddressGuard

pytestmark = pytest.mark.mailserver

SENDER = "Büro Köln <buero@firma.example>"
OWN = "buero@firma.example"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with MailServer(tmp_path_factory.mktemp("mail")) as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(servers: MailServer) -> None:
    """Each test begins with a server that does nothing wrong."""
    servers.smtp.inject(Faults())


@pytest.fixture
def artifacts(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts", 400 * 1024 * 1024)


@pytest.fixture
async def port(servers: MailServer) -> AsyncIterator[SmtpImapMail]:
    async with opened(servers) as mail:
        yield mail


@asynccontextmanager
async def opened(
    servers: MailServer,
    *,
    password: str = "secret",
    proof: Literal["sender", "recipient", "none"] = "sender",
    mailbox: str = OWN,
    copy_to: str = "",
    look_up: LookUp | None = None,
) -> AsyncIterator[SmtpImapMail]:
    mail = SmtpImapMail(
        MailAccount(
            smtp_url=servers.smtp.url(password=password),
            imap_url=servers.dovecot.imap_url(mailbox),
            sender=SENDER,
            proof=proof,
            copy_to=copy_to,
            timeout=10,
        ),
        look_up=look_up or AddressGuard().look_up,
    )
    try:
        yield mail
    finally:
        await mail.close()


def executor(port: MailPort, artifacts: FolderArtifacts) -> MailExecutor:
    return MailExecutor({"default": port}, artifacts, settle=60)


def request(action: str = "mail.send", *, job: str = "", **given: Any) -> ActionRequest:
    """A request of a job of its own; `epoch`, `look`, `age` and `tainted` are the request's, the rest are
    arguments."""
    own: dict[str, Any] = {"tenant": "default", "job": job or str(uuid4())}
    own |= {key: given.pop(key) for key in ("epoch", "look", "age", "tainted", "tenant") if key in given}
    return ActionRequest(task="send", action=action, arguments=given, **own)


def letter(**given: Any) -> ActionRequest:
    return request(
        **({"to": f"{uuid4().hex}@kunde.example", "subject": "Rechnung", "text": "Guten Tag"} | given)
    )


def box(servers: MailServer, user: str) -> list[EmailMessage]:
    """What lies in this user's inbox, as bytes on the disk of the server."""
    found = (servers.dovecot.folder / "mail" / user / "new").glob("*")
    messages = [message_from_bytes(path.read_bytes(), policy=default_policy) for path in sorted(found)]
    return [each for each in messages if isinstance(each, EmailMessage)]


def problem(result: ExecutionResult) -> tuple[FailureClass, str]:
    assert result.error is not None
    return result.error.failure, result.error.code


async def test_umlauts_arrive_in_subject_names_and_text(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    user = f"{uuid4().hex}@kunde.example"
    content = bytes(range(256)) * 800
    file = await artifacts.put(
        "default", content, name="Rechnung März – Größe.pdf", media_type="application/pdf"
    )
    asked = letter(
        to=[f"Jürgen Groß <{user}>"],
        subject="Rechnung für März: 1.234,56 € — Übersicht",
        text="Sehr geehrte Damen und Herren,\n.\n..\nviele Grüße\n",
        attachments=[file.as_reference()],
    )
    result = await executor(port, artifacts).execute(asked)
    assert result.success, result.error
    assert result.result["accepted"] == [user]
    (received,) = box(servers, user)
    assert received["Subject"] == "Rechnung für März: 1.234,56 € — Übersicht"
    assert received["To"] == f"Jürgen Groß <{user}>"
    assert received["From"] == SENDER
    assert received["Message-ID"] == result.result["message_id"]
    body = received.get_body()
    assert body is not None
    assert body.get_content() == "Sehr geehrte Damen und Herren,\n.\n..\nviele Grüße\n"
    (attached,) = received.iter_attachments()
    assert attached.get_filename() == "Rechnung März – Größe.pdf"
    assert attached.get_content_type() == "application/pdf"
    assert attached.get_payload(decode=True) == content


async def test_message_id_follows_from_the_task_not_from_the_attempt(
    servers: MailServer, artifacts: FolderArtifacts
) -> None:
    async with opened(servers, proof="none") as port:
        sending = executor(port, artifacts)
        first = letter(job="6e6a4f3e")
        again = letter(job="6e6a4f3e", epoch=2)
        other = letter(job="6e6a4f3f")
        ids = [(await sending.execute(each)).result["message_id"] for each in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] == f"<cpa.{first.idempotency_key}@firma.example>"


async def test_blind_copy_is_nowhere_in_the_message(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    seen, hidden = f"{uuid4().hex}@kunde.example", f"{uuid4().hex}@kunde.example"
    result = await executor(port, artifacts).execute(letter(to=seen, bcc=hidden))
    assert result.result["accepted"] == [seen, hidden]
    (received,) = box(servers, hidden)
    assert hidden not in received.as_string().partition("\n\n")[0].replace(
        str(received["Delivered-To"]), ""
    ).replace(str(received["Received"]), "")
    assert received["Bcc"] is None
    assert received["To"] == seen


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("subject", "Hallo\nBcc: opfer@example.org"),
        ("subject", "Hallo\r\n\r\nneuer Text"),
        ("subject", "Hallo\u2028X"),
        ("subject", "x" * 999),
        ("subject", "halb \ud83d"),
        ("text", "halb \ud83d"),
        ("to", "a@kunde.example\nBcc: opfer@example.org"),
        ("to", "a@kunde.example\r\nRCPT TO:<opfer@example.org>"),
        ("to", "nur ein Name"),
        ("to", "a@b@c.example"),
        ("to", "a b@kunde.example"),
        ("to", "Gruppe: a@kunde.example, b@kunde.example;"),
        ("to", "jürgen@kunde.example"),
        ("to", "a@-kunde-.example"),
        ("to", "a@kunde..example"),
        ("to", ""),
        ("to", []),
        ("to", [7]),
        ("cc", "a@kunde.example, kaputt"),
        ("bcc", "<a@kunde.example"),
        ("text", {"secret": "x"}),
        ("attachments", "rechnung.pdf"),
        ("attachments", [{"file": "x"}]),
    ],
)
async def test_hostile_or_broken_argument_is_refused_before_any_connection(
    artifacts: FolderArtifacts, argument: str, value: object
) -> None:
    port = nowhere()
    result = await executor(port, artifacts).execute(letter(**{argument: value}))
    assert result.error is not None
    assert result.error.failure is FailureClass.BUSINESS
    assert result.error.code in ("invalid_header", "invalid_address", "bad_argument")
    assert result.error.remedy
    await port.close()


def nowhere() -> SmtpImapMail:
    """An account whose servers do not exist."""
    return SmtpImapMail(
        MailAccount(
            smtp_url=f"smtp://cpa:secret@127.0.0.1:{free_port()}",
            imap_url=f"imap://cpa:secret@127.0.0.1:{free_port()}",
            sender=OWN,
            timeout=5,
        )
    )


@pytest.mark.parametrize("name", ["to", "cc", "bcc", "to[0]", "account"])
async def test_recipient_from_outside_is_against_the_policy(
    port: SmtpImapMail, artifacts: FolderArtifacts, name: str
) -> None:
    result = await executor(port, artifacts).execute(letter(tainted=frozenset({name})))
    assert problem(result) == (FailureClass.POLICY, "tainted_argument")


async def test_umlaut_domain_is_sent_in_its_ascii_form(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    user = uuid4().hex
    result = await executor(port, artifacts).execute(letter(to=f"{user}@müller.example"))
    assert result.result["accepted"] == [f"{user}@xn--mller-kva.example"]
    assert len(box(servers, f"{user}@xn--mller-kva.example")) == 1


async def test_several_recipients_in_one_text_and_doubles(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    one, two = f"{uuid4().hex}@kunde.example", f"{uuid4().hex}@kunde.example"
    result = await executor(port, artifacts).execute(
        letter(to=f'"Groß, Jürgen" <{one}>, {two}', cc=one.upper())
    )
    assert result.result["accepted"][:2] == [one, two]
    assert len(box(servers, two)) == 1


async def test_hostile_attachment_name_becomes_a_plain_one(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    user = f"{uuid4().hex}@kunde.example"
    file = await artifacts.put("default", b"x")
    name = '../../etc/pass\r\nX-Evil: 1\r\n\r\nwd".pdf'
    hostile = file.as_reference() | {"name": name, "media_type": "text/html\r\nX-Evil: 2"}
    result = await executor(port, artifacts).execute(letter(to=user, attachments=hostile))
    assert result.success, result.error
    (received,) = box(servers, user)
    (attached,) = received.iter_attachments()
    assert attached["X-Evil"] is None
    assert received["X-Evil"] is None
    assert attached.get_content_type() == "application/octet-stream"
    assert "/" not in str(attached.get_filename())


async def test_attachment_of_300_megabytes_gets_a_clear_answer_and_no_connection(tmp_path: Path) -> None:
    artifacts = FolderArtifacts(tmp_path, 400 * 1024 * 1024)
    huge = await artifacts.put("default", zeros(300), name="Akte.zip")
    port = nowhere()
    result = await executor(port, artifacts).execute(letter(attachments=[lied_about(huge)]))
    assert problem(result) == (FailureClass.BUSINESS, "attachment_too_large")
    assert result.error is not None
    assert "300.0 MiB" in result.error.message
    assert "25.0 MiB" in result.error.message
    assert "Akte.zip" in result.error.message
    assert result.error.remedy
    await port.close()


async def zeros(megabytes: int) -> AsyncIterator[bytes]:
    for _ in range(megabytes):
        yield bytes(1024 * 1024)


def lied_about(artifact: Artifact) -> dict[str, Any]:
    """A reference that understates the size."""
    return artifact.as_reference() | {"size": 1}


async def test_attachment_of_8_megabytes_arrives_and_leaves_the_loop_alive(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    user = f"{uuid4().hex}@kunde.example"
    file = await artifacts.put("default", zeros(8), name="plan.bin")
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - begun)

    beating = asyncio.create_task(heartbeat())
    result = await executor(port, artifacts).execute(letter(to=user, attachments=file.as_reference()))
    beating.cancel()
    assert result.success, result.error
    assert longest < 1.0
    (received,) = box(servers, user)
    (attached,) = received.iter_attachments()
    assert attached.get_payload(decode=True) == bytes(8 * 1024 * 1024)


async def test_missing_attachment_is_named(port: SmtpImapMail, artifacts: FolderArtifacts) -> None:
    result = await executor(port, artifacts).execute(letter(attachments={"artifact": "sha256:" + "0" * 64}))
    assert problem(result) == (FailureClass.BUSINESS, "attachment_not_found")


async def test_one_refused_recipient_stops_the_mail_to_all(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    good, bad = f"{uuid4().hex}@kunde.example", f"{uuid4().hex}@kunde.example"
    servers.smtp.inject(Faults(recipients={bad: "550 5.1.1 kein solches Postfach"}))
    asked = letter(to=[good, bad])
    result = await executor(port, artifacts).execute(asked)
    assert problem(result) == (FailureClass.BUSINESS, "recipient_refused")
    assert result.error is not None
    assert bad in result.error.message
    assert good not in result.error.message
    assert box(servers, good) == []
    assert servers.smtp.accepted()[f"<cpa.{asked.idempotency_key}@firma.example>"] == 0


@pytest.mark.parametrize(
    ("faults", "failure", "code"),
    [
        (Faults(sender="550 5.7.1 nicht von hier"), FailureClass.BUSINESS, "smtp_550"),
        (Faults(sender="451 4.7.1 later"), FailureClass.TECHNICAL, "smtp_451"),
        (Faults(data="554 5.6.0 Spam"), FailureClass.BUSINESS, "smtp_554"),
        (Faults(data="552 5.3.4 too large"), FailureClass.BUSINESS, "message_too_large"),
        (Faults(data="451 4.3.0 Platte voll"), FailureClass.TECHNICAL, "smtp_451"),
        (Faults(sender="421 4.3.2 closing"), FailureClass.ENVIRONMENT, "smtp_421"),
        (Faults(sender="432 4.3.2 concurrent connections"), FailureClass.ENVIRONMENT, "smtp_432"),
        (Faults(data="421 4.3.2 closing"), FailureClass.TECHNICAL, "smtp_421"),
        (Faults(break_at="rcpt"), FailureClass.TECHNICAL, "smtp_broken"),
        (Faults(break_at="data"), FailureClass.TECHNICAL, "smtp_broken"),
        (Faults(break_at="dot"), FailureClass.UNKNOWN_OUTCOME, "smtp_broken"),
        (Faults(break_at="answer"), FailureClass.UNKNOWN_OUTCOME, "smtp_broken"),
    ],
)
async def test_every_fault_gets_its_class(
    servers: MailServer,
    port: SmtpImapMail,
    artifacts: FolderArtifacts,
    faults: Faults,
    failure: FailureClass,
    code: str,
) -> None:
    servers.smtp.inject(faults)
    result = await executor(port, artifacts).execute(letter())
    assert problem(result) == (failure, code)


async def test_recipient_put_off_is_tried_again_later(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    user = f"{uuid4().hex}@kunde.example"
    servers.smtp.inject(Faults(recipients={user: "450 4.2.1 greylisted"}))
    result = await executor(port, artifacts).execute(letter(to=user))
    assert problem(result) == (FailureClass.TECHNICAL, "smtp_450")


async def test_a_server_that_closes_amid_the_recipients_is_not_ready(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    """It speaks of itself, not of the recipient; who comes after that is asked no more."""
    users = [f"{uuid4().hex}@kunde.example" for _ in range(3)]
    servers.smtp.inject(Faults(recipients={users[1]: "421 4.3.2 closing"}))
    result = await executor(port, artifacts).execute(letter(to=users))
    assert problem(result) == (FailureClass.ENVIRONMENT, "smtp_421")


@asynccontextmanager
async def crowded(most: int) -> AsyncIterator[tuple[SmtpImapMail, list[int]]]:
    """An account of a server that has room for so many connections, and how many were open at a time."""
    open_, seen = set[object](), list[int]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        seen.append(len(open_))
        room = len(open_) <= most
        writer.write(b"220 mail.test\r\n" if room else b"421 4.7.0 too many connections\r\n")
        while room and (line := await reader.readline()):
            if line.upper().startswith(b"QUIT"):
                open_.discard(writer)  # Before it is told: the next one comes at once.
                writer.write(b"221 bye\r\n")
                break
            if line.upper().startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 OK\r\n")
        open_.discard(writer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    host, number = server.sockets[0].getsockname()
    port = SmtpImapMail(MailAccount(smtp_url=f"smtp://{host}:{number}", sender=OWN, timeout=20))
    try:
        yield port, seen
    finally:
        await port.close()
        server.close()


async def test_a_server_that_has_no_room_is_not_ready(artifacts: FolderArtifacts) -> None:
    async with crowded(0) as (port, _):
        result = await executor(port, artifacts).execute(letter())
    assert problem(result) == (FailureClass.ENVIRONMENT, "smtp_421")


async def test_no_more_connections_are_open_than_servers_have_room_for(artifacts: FolderArtifacts) -> None:
    async with crowded(3) as (port, seen):
        sending = executor(port, artifacts)
        results = await asyncio.gather(*(sending.execute(letter()) for _ in range(24)))
    assert all(result.success for result in results)
    assert max(seen) <= 3


async def test_break_within_a_large_message_is_not_in_doubt(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    file = await artifacts.put("default", zeros(20))
    servers.smtp.inject(Faults(break_at="body"))
    result = await executor(port, artifacts).execute(letter(attachments=file.as_reference()))
    assert problem(result) == (FailureClass.TECHNICAL, "smtp_broken")


async def test_server_that_is_not_there_is_technical(artifacts: FolderArtifacts) -> None:
    port = nowhere()
    result = await executor(port, artifacts).execute(letter())
    assert problem(result) == (FailureClass.TECHNICAL, "smtp_unreachable")
    await port.close()


@pytest.mark.parametrize("action", ["mail.send", "mail.search"])
async def test_a_mail_server_whose_name_nobody_answers_for_waits_for_its_place(
    servers: MailServer, artifacts: FolderArtifacts, action: str
) -> None:
    """Its servers run: that nobody was connected to shows that the name was asked for first."""

    async def unanswered(host: str) -> Sequence[str]:
        raise not_resolved(host)

    async with opened(servers, look_up=unanswered) as port:
        result = await executor(port, artifacts).execute(
            letter() if action == "mail.send" else request(action)
        )
    assert problem(result) == (FailureClass.ENVIRONMENT, "name_not_resolved")
    assert result.error is not None
    assert "was not resolved in time" in result.error.message
    assert "name servers" in result.error.remedy


async def test_a_mail_server_whose_name_does_not_exist_is_technical(artifacts: FolderArtifacts) -> None:
    account = MailAccount(
        smtp_url="smtp://cpa:secret@mail.invalid", imap_url="imap://cpa:secret@mail.invalid", sender=OWN
    )
    port = SmtpImapMail(account, look_up=AddressGuard().look_up)
    mail = executor(port, artifacts)
    assert problem(await mail.execute(letter())) == (FailureClass.TECHNICAL, "smtp_unreachable")
    assert problem(await mail.execute(request("mail.search"))) == (FailureClass.TECHNICAL, "imap_unreachable")
    await port.close()


async def test_wrong_password_names_the_remedy_but_not_the_password(
    servers: MailServer, artifacts: FolderArtifacts
) -> None:
    async with opened(servers, password="falsch-4711") as port:
        result = await executor(port, artifacts).execute(letter())
    assert problem(result) == (FailureClass.BUSINESS, "smtp_auth_failed")
    assert result.error is not None
    assert "smtp_url" in result.error.remedy
    assert "falsch-4711" not in str(result.error)


async def test_lost_answer_is_proved_by_the_copy_to_the_sender(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    servers.smtp.inject(Faults(break_at="answer", times=1))
    sending = executor(port, artifacts)
    asked = letter()
    assert problem(await sending.execute(asked))[0] is FailureClass.UNKNOWN_OUTCOME
    proved = await sending.verify(asked)
    assert proved.verdict is Verdict.HAPPENED
    assert proved.result == {
        "message_id": f"<cpa.{asked.idempotency_key}@firma.example>",
        "accepted": [asked.arguments["to"]],
    }


async def test_absence_counts_only_after_the_settle_time(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    servers.smtp.inject(Faults(break_at="dot", times=1))
    sending = executor(port, artifacts)
    asked = letter(job="9d1f")
    assert problem(await sending.execute(asked))[0] is FailureClass.UNKNOWN_OUTCOME
    for age, verdict, look_again in (
        (0.0, Verdict.UNKNOWN, 60.0),
        (59.5, Verdict.UNKNOWN, 0.5),
        (60.0, Verdict.ABSENT, None),
    ):
        told = await sending.verify(letter(job="9d1f", to=asked.arguments["to"], look=7, age=age))
        assert (told.verdict, told.look_again) == (verdict, look_again)


async def test_second_attempt_finds_the_first_ones_mail_and_sends_nothing(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    servers.smtp.inject(Faults(break_at="answer", times=1))
    sending = executor(port, artifacts)
    first = letter(job="77aa")
    await sending.execute(first)
    again = letter(job="77aa", to=first.arguments["to"], epoch=2)
    result = await sending.execute(again)
    assert result.success, result.error
    assert servers.smtp.accepted()[result.result["message_id"]] == 1
    assert len(box(servers, first.arguments["to"])) == 1


@pytest.mark.parametrize("copy_to", ["", "{user}"])
async def test_recipients_own_mailbox_can_be_the_proof(
    servers: MailServer, artifacts: FolderArtifacts, copy_to: str
) -> None:
    user = f"{uuid4().hex}@kunde.example"
    async with opened(servers, proof="recipient", mailbox=user, copy_to=copy_to.format(user=user)) as port:
        sending = executor(port, artifacts)
        asked = letter(to=user)
        assert (await sending.execute(asked)).success
        assert (await sending.verify(asked)).verdict is Verdict.HAPPENED
        elsewhere = await sending.verify(letter(to="anderer@kunde.example", age=3600))
        assert (elsewhere.verdict, elsewhere.look_again) == (Verdict.UNKNOWN, None)
    assert port.proof_copy == ""


async def test_without_a_place_to_look_nothing_can_be_told(
    servers: MailServer, artifacts: FolderArtifacts
) -> None:
    async with opened(servers, proof="none") as port:
        assert not port.can_prove_absence
        for age in (0, 3600):
            told = await executor(port, artifacts).verify(letter(age=age))
            assert (told.verdict, told.look_again) == (Verdict.UNKNOWN, None)


async def test_mailbox_that_cannot_be_searched_leaves_it_unknown(artifacts: FolderArtifacts) -> None:
    port = nowhere()
    told = await executor(port, artifacts).verify(letter(look=3, age=3600))
    assert (told.verdict, told.look_again) == (Verdict.UNKNOWN, 60)
    await port.close()


async def test_mail_that_could_not_be_composed_was_not_sent(
    port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    assert (await executor(port, artifacts).verify(letter(to="kaputt"))).verdict is Verdict.ABSENT


async def test_search_finds_umlauts_newest_first_and_reading_keeps_the_attachment(
    servers: MailServer, artifacts: FolderArtifacts
) -> None:
    user = f"{uuid4().hex}@kunde.example"
    file = await artifacts.put(
        "default", b"%PDF-1.7 \xff", name="Prüfbericht.pdf", media_type="application/pdf"
    )
    async with opened(servers, mailbox=user) as port:
        mail = executor(port, artifacts)
        for subject, attached in (
            ("Prüfung eins", []),
            ("Prüfung zwei", [file.as_reference()]),
            ("Anderes", []),
        ):
            await mail.execute(letter(to=user, subject=subject, text="Grüße", attachments=attached))
        found = await mail.execute(request("mail.search", subject="prüfung", unseen=True, since="2020-01-01"))
        assert found.success, found.error
        assert [each["subject"] for each in found.result["messages"]] == ["Prüfung zwei", "Prüfung eins"]
        assert found.result["count"] == 2
        newest = await mail.execute(request("mail.search", sender=OWN, limit=1))
        assert [each["subject"] for each in newest.result["messages"]] == ["Anderes"]
        assert (await mail.execute(request("mail.search", since="2999-01-01"))).result["count"] == 0
        read = await mail.execute(request("mail.read", uid=found.result["messages"][0]["uid"]))
        still = await mail.execute(request("mail.search", unseen=True))
    assert read.success, read.error
    assert read.result["text"] == "Grüße\n"
    (reference,) = read.result["attachments"]
    assert reference["name"] == "Prüfbericht.pdf"
    assert await artifacts.read("default", reference["artifact"]) == b"%PDF-1.7 \xff"
    assert read.artifacts == (reference["artifact"],)
    assert still.result["count"] == 3


async def test_mail_that_is_only_html_is_read_as_text(
    servers: MailServer, artifacts: FolderArtifacts
) -> None:
    user = f"{uuid4().hex}@kunde.example"
    message = EmailMessage()
    message["Subject"] = "Angebot"
    message["From"] = OWN
    page = "<head><title>T</title></head><p>Gr&uuml;&szlig;e<br>aus K&ouml;ln</p><script>x()</script>"
    message.set_content(page, subtype="html")
    async with opened(servers, mailbox=user) as port:
        await port.send(message, sender=OWN, recipients=[user])
        read = await executor(port, artifacts).execute(request("mail.read", uid="1"))
    assert read.result["text"] == "Grüße\naus Köln"


async def test_long_text_is_cut_and_kept_whole_as_artifact(
    servers: MailServer, artifacts: FolderArtifacts
) -> None:
    user = f"{uuid4().hex}@kunde.example"
    long = "äöü 0123456789\n" * 4000
    async with opened(servers, mailbox=user) as port:
        mail = executor(port, artifacts)
        await mail.execute(letter(to=user, text=long))
        read = await mail.execute(request("mail.read", uid="1"))
    assert len(read.result["text"].encode()) <= MAX_INLINE
    assert long.startswith(read.result["text"])
    whole = await artifacts.read("default", read.result["text_file"]["artifact"])
    assert whole.decode() == long


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"uid": "4711"}, "mail_not_found"),
        ({"uid": "1:*"}, "bad_input"),
        ({"uid": "1", "folder": "Gibt es nicht/Ü"}, "folder_not_found"),
        ({}, "bad_argument"),
    ],
)
async def test_reading_what_is_not_there_is_a_business_answer(
    port: SmtpImapMail, artifacts: FolderArtifacts, arguments: dict[str, str], code: str
) -> None:
    result = await executor(port, artifacts).execute(request("mail.read", **arguments))
    assert problem(result) == (FailureClass.BUSINESS, code)


@pytest.mark.parametrize(
    "arguments",
    [{"subject": 'a" ALL SUBJECT "b'}, {"subject": "a\\"}, {"text": 'x" DELETED'}],
)
async def test_search_text_cannot_become_a_command(
    port: SmtpImapMail, artifacts: FolderArtifacts, arguments: dict[str, str]
) -> None:
    result = await executor(port, artifacts).execute(request("mail.search", **arguments))
    assert result.success, result.error
    assert result.result["count"] == 0


@pytest.mark.parametrize(
    "arguments", [{"subject": "a\r\nX LOGOUT"}, {"since": "gestern"}, {"limit": 0}, {"unseen": "ja"}]
)
async def test_senseless_search_is_refused(
    port: SmtpImapMail, artifacts: FolderArtifacts, arguments: dict[str, Any]
) -> None:
    result = await executor(port, artifacts).execute(request("mail.search", **arguments))
    assert result.error is not None
    assert result.error.failure is FailureClass.BUSINESS
    assert result.error.remedy


async def test_account_of_another_tenant_is_out_of_reach(
    port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    mail = MailExecutor({"default": port, "acme/default": port}, artifacts)
    assert problem(await mail.execute(letter(tenant="globex")))[1] == "unknown_account"
    assert problem(await mail.execute(letter(account="acme/default")))[1] == "unknown_account"
    assert (await mail.execute(letter(tenant="acme"))).success


async def test_thirty_sends_at_once_all_arrive_once(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    sending = executor(port, artifacts)
    letters = [letter() for _ in range(30)]
    results = await asyncio.gather(*(sending.execute(each) for each in letters))
    assert all(each.success for each in results), results
    counted = servers.smtp.accepted()
    assert [counted[each.result["message_id"]] for each in results] == [1] * 30


async def test_cancelled_send_leaves_no_connection_behind(
    servers: MailServer, port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    servers.smtp.inject(Faults(delay=5, times=1))
    asked = letter()
    identity = f"<cpa.{asked.idempotency_key}@firma.example>"
    sending = asyncio.create_task(executor(port, artifacts).execute(asked))
    deadline = time.monotonic() + 10
    while servers.smtp.accepted()[identity] == 0:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert (await executor(port, artifacts).verify(asked)).verdict is Verdict.HAPPENED


async def test_password_is_asked_for_only_where_the_url_has_none(
    servers: MailServer, artifacts: FolderArtifacts
) -> None:
    def password() -> str:
        raise NotFound("the secret 'mail_password' is not set", remedy="set it")

    bare = servers.smtp.url().replace(":secret@", "@")
    imap = servers.dovecot.imap_url(OWN)
    port = SmtpImapMail(MailAccount(smtp_url=bare, imap_url=imap, sender=OWN, password=password, timeout=5))
    mail = executor(port, artifacts)
    assert (await mail.execute(request("mail.search"))).success
    assert problem(await mail.execute(letter())) == (FailureClass.BUSINESS, "not_found")
    await port.close()
    given = MailAccount(smtp_url=bare, sender=OWN, password=lambda: "secret", timeout=5)
    port = SmtpImapMail(given)
    assert (await executor(port, artifacts).execute(letter())).success
    await port.close()


# -- protection of the connection --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts(authority: trustme.CA, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server with a certificate for `name`, and of a client that trusts the authority."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("implicit", [True, False])
async def test_mail_goes_over_tls(tmp_path: Path, authority: trustme.CA, implicit: bool) -> None:
    server, client = contexts(authority)
    with SmtpServer(tmp_path, tls=server, implicit=implicit) as smtp:
        url = smtp.url().replace("smtp:", "smtps:") if implicit else smtp.url()
        port = SmtpImapMail(MailAccount(smtp_url=url, sender=OWN, tls=client, starttls=True, timeout=5))
        answer = await port.send(plain_letter(), sender=OWN, recipients=["a@kunde.example"])
        await port.close()
        assert answer.startswith("250")
        assert smtp.accepted() == {"<1@firma.example>": 1}


def plain_letter() -> EmailMessage:
    message = EmailMessage()
    message["Message-ID"] = "<1@firma.example>"
    message.set_content("x")
    return message


async def test_wrong_certificate_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    server, client = contexts(authority, "anderswo.example")
    with SmtpServer(tmp_path, tls=server) as smtp:
        port = SmtpImapMail(
            MailAccount(smtp_url=smtp.url(), sender=OWN, tls=client, starttls=True, timeout=5)
        )
        with pytest.raises(MailRefused) as refused:
            await port.send(plain_letter(), sender=OWN, recipients=["a@kunde.example"])
        await port.close()
    assert refused.value.code == "smtp_tls_failed"


async def test_server_without_starttls_never_sees_the_password(servers: MailServer) -> None:
    port = SmtpImapMail(MailAccount(smtp_url=servers.smtp.url(), sender=OWN, starttls=True, timeout=5))
    with pytest.raises(MailRefused) as refused:
        await port.send(plain_letter(), sender=OWN, recipients=["a@kunde.example"])
    await port.close()
    assert refused.value.code == "smtp_unsupported"


def test_only_loopback_may_be_plain() -> None:
    assert parse_endpoint("smtp://u@127.0.0.1:25", "smtp")[0].tls == "plain"
    assert parse_endpoint("smtp://u@[::1]:25", "smtp")[0].tls == "plain"
    assert parse_endpoint("smtp://u@mail.firma.example", "smtp")[0].tls == "starttls"
    assert (
        parse_endpoint("imaps://u%40firma.example:p%2Fw@mail.firma.example", "imap")[0].user
        == "u@firma.example"
    )
    with pytest.raises(BadInput, match="clear text"):
        parse_endpoint("smtp://u:geheim@mail.firma.example", "smtp", starttls=False)


@pytest.mark.parametrize(
    "url", ["", "mail.firma.example", "http://x", "smtp://", "smtp://x:99999", "smtp://[::1"]
)
def test_bad_mail_url_names_the_setting(url: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_endpoint(url, "smtp")
    assert refused.value.field == "smtp_url"


async def test_server_that_never_answers_ends_in_trouble_not_in_doubt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"smtp://u:p@127.0.0.1:{deaf.getsockname()[1]}"
        port = SmtpImapMail(MailAccount(smtp_url=url, sender=OWN, timeout=0.3))
        with pytest.raises(MailTrouble) as trouble:
            await port.send(plain_letter(), sender=OWN, recipients=["a@kunde.example"])
        await port.close()
    assert not trouble.value.sent_unknown


async def test_folder_of_the_proof_is_searched_exactly(
    port: SmtpImapMail, artifacts: FolderArtifacts
) -> None:
    asked = letter()
    await executor(port, artifacts).execute(asked)
    identity = f"<cpa.{asked.idempotency_key}@firma.example>"
    assert await port.find(identity) is not None
    assert await port.find(identity[:-9]) is None
    assert await port.search(MailQuery(folder="Erledigt", message_id=identity)) == []


async def test_looking_for_sixty_mails_at_once_takes_four_logins(
    port: SmtpImapMail, artifacts: FolderArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [letter(subject=f"Größe {number}") for number in range(3)]
    for asked in there:
        assert (await executor(port, artifacts).execute(asked)).success
    logins = create_autospec(ImapMailbox._connect, side_effect=ImapMailbox._connect)
    monkeypatch.setattr(ImapMailbox, "_connect", logins)
    sent = [f"<cpa.{asked.idempotency_key}@firma.example>" for asked in there]
    absent = [f"<cpa.{number:032x}@firma.example>" for number in range(57)]
    found = await asyncio.gather(*(port.find(identity) for identity in (*absent, *sent)))
    assert found[:57] == [None] * 57
    assert [mail and mail.message_id for mail in found[57:]] == sent
    assert logins.call_count <= 4
