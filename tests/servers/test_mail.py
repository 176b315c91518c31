"""The mail servers of the tests, as a program of their own."""

from __future__ import annotations

import json
import signal
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.ports import answers, wait_until
from tests.servers.smtp import PASSWORD, USER, Faults, SmtpServer, accepted, inject

pytestmark = pytest.mark.mailserver

ROOT = Path(__file__).parents[2]


def send(port: int, identity: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.login(USER, PASSWORD)
        client.sendmail(
            "a@firma.example", ["b@kunde.example"], f"Message-ID: <{identity}>\r\n\r\nx\r\n".encode()
        )


def test_separate_process_says_its_ports_counts_durably_and_ends_with_its_input(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.servers.mail", str(tmp_path / "mail")]
    with subprocess.Popen(
        program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            where = json.loads(server.stdout.readline())
            folder = Path(where["folder"])
            send(where["smtp"], "1@x")
            send(where["smtp"], "1@x")
            inject(folder, Faults(data="451 4.3.0 later", times=1))
            with pytest.raises(smtplib.SMTPDataError):
                send(where["smtp"], "2@x")
            send(where["smtp"], "2@x")
            server.stdin.close()
            assert server.wait(20) == 0
        finally:
            server.kill()
    assert accepted(folder) == {"<1@x>": 2, "<2@x>": 1}
    wait_until(
        lambda: not any(answers(where[name]) for name in ("smtp", "imap", "lmtp")), "all ports are closed"
    )


def test_client_is_killed_right_after_its_message_was_accepted(tmp_path: Path) -> None:
    code = (
        "import sys; sys.stdin.readline();"
        "from tests.servers.test_mail import send; send(int(sys.argv[1]), 'k@x'); sys.stdin.read()"
    )
    with SmtpServer(tmp_path) as smtp:
        program = [sys.executable, "-c", code, str(smtp.port)]
        with subprocess.Popen(program, cwd=ROOT, stdin=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None
            smtp.inject(Faults(kill=client.pid, times=1))
            client.stdin.write("go\n")
            client.stdin.flush()
            assert client.wait(20) == -signal.SIGKILL
        assert smtp.accepted() == {"<k@x>": 1}
        send(smtp.port, "l@x")
        assert smtp.accepted() == {"<k@x>": 1, "<l@x>": 1}
