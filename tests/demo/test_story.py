"""The whole demo, with a real browser, portal, mail server and scheduler."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console

from cpa.demo.proof import Fetched
from cpa.demo.stage import Ports, open_props, open_stage
from cpa.demo.story import SENTENCES, tell
from cpa.errors import BadInput, Unavailable

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=160, highlight=False), out


@pytest.mark.mailserver
async def test_both_sentences_end_in_a_proved_mail_through_dovecot(tmp_path: Path) -> None:
    shown, out = console()
    code = await tell(shown, folder=tmp_path, mail="dovecot")
    text = out.getvalue()

    assert code == 0, text
    assert text.count("byte for byte") == 2
    assert "✘" not in text
    assert "read back by IMAP" in text
    assert all(sentence in text for sentence in SENTENCES.values())
    assert len(list((tmp_path / "mail" / "billing@kunde.example").glob("*/*"))) >= 2


async def test_the_embedded_mail_server_does_as_well_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:////nowhere/of/yours.db")
    monkeypatch.setenv("CPA_SMTP_URL", "smtp://somebody@real.example:25")
    monkeypatch.setenv("CPA_LOG_LEVEL", "LOUD")
    shown, out = console()
    code = await tell(shown, language="de", folder=tmp_path, mail="embedded")

    assert code == 0, out.getvalue()
    assert "writing a Maildir" in out.getvalue()
    assert SENTENCES["en"] not in out.getvalue()


async def test_an_effect_that_is_not_as_it_should_be_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def another(*_: str) -> Fetched:
        return Fetched("invoice-2026-0377.pdf", b"%PDF-1.4 another one")

    monkeypatch.setattr("cpa.demo.story.fetch_latest_invoice", another)
    shown, out = console()
    code = await tell(shown, language="en", folder=tmp_path, mail="embedded")

    assert code == 1
    assert "✘ its one attachment is the portal's" in out.getvalue()
    assert "Not proved" in out.getvalue()


async def test_an_unknown_language_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="choose en, de or both"):
        await tell(console()[0], language="fr", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_the_props_stay_where_they_are_asked_to_and_say_so_when_they_cannot(tmp_path: Path) -> None:
    async with open_props(tmp_path / "a", mail="embedded", password="demo") as first:
        port = int(first.portal.rsplit(":", 1)[1])
        assert first.password == first.mail.smtp.password == "demo"
        with pytest.raises(Unavailable) as refused:
            async with open_props(tmp_path / "b", mail="embedded", ports=Ports(portal=port)):
                pass
        assert refused.value.value == f"127.0.0.1:{port}"
        with pytest.raises(Unavailable) as refused:
            async with open_props(tmp_path / "b", mail="embedded", ports=Ports(smtp=first.mail.smtp.port)):
                pass
        assert refused.value.value == f"127.0.0.1:{first.mail.smtp.port}"
        assert "mail server" in refused.value.message
        assert "another terminal" in str(refused.value)


@pytest.mark.mailserver
async def test_what_was_copied_from_the_props_goes_on_working_after_a_new_start(tmp_path: Path) -> None:
    async with open_props(tmp_path, mail="dovecot") as first:
        ports = Ports(imap=first.mail.imap.port)
        secrets = {path.name: path.read_text("utf-8") for path in (first.data / "secrets").iterdir()}
    async with open_props(tmp_path, mail="dovecot", ports=ports) as second:
        told = dict(second.parts)
        assert f"imap://automation%40cpa.example@127.0.0.1:{ports.imap}" in told[""]
        assert {path.name: path.read_text("utf-8") for path in (second.data / "secrets").iterdir()} == secrets
        assert (second.password, second.mail.smtp.password) == (
            secrets["portal_password"],
            secrets["mail_password"],
        )
        with pytest.raises(Unavailable, match="mailbox cannot have port"):
            async with open_props(tmp_path / "b", mail="dovecot", ports=ports):
                pass


async def test_the_workspace_holds_no_secret(tmp_path: Path) -> None:
    async with open_stage(tmp_path, mail="embedded") as stage:
        written = (stage.props.workspace / "cpa.yaml").read_text("utf-8")
        vault = stage.props.data / "secrets"

        assert stage.props.password not in written
        assert stage.props.mail.smtp.password not in written
        assert json.loads(written)["values"]["portal"]["url"] == stage.props.portal
        assert {path.name: path.stat().st_mode & 0o777 for path in vault.iterdir()} == {
            "portal_password": 0o600,
            "mail_password": 0o600,
        }


async def test_a_retry_after_the_password_was_corrected_signs_in_again(tmp_path: Path) -> None:
    async with open_stage(tmp_path, mail="embedded") as stage:
        secret = stage.props.data / "secrets" / "portal_password"
        secret.write_text("wrong", "utf-8")
        async with httpx2.AsyncClient(
            base_url=stage.api, headers={"X-API-Key": stage.key}, timeout=60, trust_env=False
        ) as api:
            job = (await api.post("/schedule", json={"text": SENTENCES["en"]})).json()["job_id"]
            refused = await ended(api, job)
            secret.write_text(stage.props.password, "utf-8")
            assert (await api.post(f"/jobs/{job}/retry")).is_success
            done = await ended(api, job)

    assert (refused["job"]["status"], refused["job"]["error"]["code"]) == ("failed", "login_refused")
    assert done["job"]["status"] == "done", done["job"]
    assert {task["status"] for task in done["tasks"]} == {"done"}


async def ended(api: httpx2.AsyncClient, job: str) -> dict[str, Any]:
    """The job's detail once its run has ended."""
    after, end = 0, time.monotonic() + 90
    while time.monotonic() < end:
        page = (await api.get(f"/jobs/{job}/events", params={"after": after, "wait": 5})).json()
        after = page["last_seq"]
        if page["ended"]:
            return dict((await api.get(f"/jobs/{job}")).json())
    raise AssertionError("the run did not end in time")


@pytest.mark.mailserver
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(tmp_path: Path, sent: signal.Signals) -> None:
    script = "import sys; from pathlib import Path; from cpa.demo.story import run_demo; "
    script += "sys.exit(run_demo(language='en', folder=Path(sys.argv[1]), mail='dovecot'))"
    program = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    assert program.stdout is not None
    with program:
        for line in program.stdout:
            if "open " in line and "web.goto" in line:
                break
        program.send_signal(sent)
        program.stdout.read()
        program.wait(30)

    assert program.returncode != 0
    assert _left_behind(program.pid, tmp_path) == []
    assert list(tmp_path.glob("cpa-mail-*")) == []


def _left_behind(leader: int, folder: Path) -> list[str]:
    """Processes of the program's session, and whatever else names its folder (Dovecot has a session of its own)."""
    listed = subprocess.run(["ps", "-eo", "sid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.split()[0] == str(leader) or str(folder) in line]
