"""A real Redmine (Debian: redmine, redmine-sqlite, puma) on a free port, with a fresh database of its own.

The package's own instance and database stay as they are: DATABASE_URL names another one, and the log goes
to a file here. The project and its issues come in through Redmine's own REST interface; only what that cannot
do (switching it on, a first password that need not be changed) is written into the fresh database before the
start. Needs root, because Redmine runs as www-data.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

from tests.servers.ports import free_port, wait_until

ADMIN = "admin"
PASSWORD = "Grün-und-sicher-7"
_HOME = Path("/usr/share/redmine")


class Redmine:
    """Context manager; answers at `url` inside the block, nothing runs after it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Not below pytest's folder: www-data must get through to it.
        self.folder = Path(tempfile.mkdtemp(prefix="cpa-redmine-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Redmine:
        try:
            self._prepare()
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def create_project(self, name: str, identifier: str, issues: Sequence[str]) -> None:
        """A project with these issues, in this order."""
        project = self._post("projects", {"project": {"name": name, "identifier": identifier}})["project"]
        for subject in issues:
            self._post("issues", {"issue": {"project_id": project["id"], "subject": subject}})

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _post(self, resource: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx2.post(
            f"{self.url}/{resource}.json", json=body, auth=(ADMIN, PASSWORD), timeout=30, trust_env=False
        )
        if answer.status_code != 201:
            raise RuntimeError(f"Redmine refused {body}: {answer.status_code} {answer.text[:500]}")
        created: dict[str, Any] = answer.json()
        return created

    def _prepare(self) -> None:
        if not (_HOME / "config.ru").exists() or shutil.which("puma") is None:
            raise RuntimeError("Redmine is missing: apt-get install redmine redmine-sqlite puma")
        shutil.chown(self.folder, "www-data", "www-data")
        self._run("rake", "db:migrate")
        self._run("rake", "redmine:load_default_data")
        salt = "00112233445566778899aabbccddeeff"
        inner = hashlib.sha1(PASSWORD.encode()).hexdigest()
        hashed = hashlib.sha1((salt + inner).encode()).hexdigest()
        with sqlite3.connect(self.folder / "redmine.db") as database:
            database.execute(
                "UPDATE users SET hashed_password = ?, salt = ?, must_change_passwd = 0 WHERE login = ?",
                (hashed, salt, ADMIN),
            )
            database.execute("INSERT INTO settings (name, value) VALUES ('rest_api_enabled', '1')")
        database.close()

    def _start(self) -> None:
        self._process = self._open(
            "puma", "-e", "production", "-b", f"tcp://127.0.0.1:{self.port}", "config.ru"
        )
        wait_until(self._ready, "Redmine answers", seconds=90)

    def _ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"Redmine ended with {self._process.returncode}: {self.log()[-2000:]}")
        with suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.url}/login", timeout=60, trust_env=False).status_code == 200
        return False

    def _run(self, *command: str) -> None:
        process = self._open("bundle", "exec", *command)
        if process.wait(180) != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {self.log()[-2000:]}")

    def _open(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as output:
            return subprocess.Popen(
                ["runuser", "-u", "www-data", "--", *command],
                cwd=_HOME,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "REDMINE_INSTANCE": "default",
            "REDMINE_LANG": "en",
            "RAILS_ENV": "production",
            "RAILS_LOG_TO_STDOUT": "1",
            "DATABASE_URL": f"sqlite3:{self.folder}/redmine.db",
            "SCHEMA": "/dev/null",
            "BUNDLER_VERSION": _bundler(),
        }

    def _stop(self) -> None:
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(15)
        shutil.rmtree(self.folder, ignore_errors=True)


def _bundler() -> str:
    """Version of Debian's own Bundler: the one inside newer Rubies does not see gems from packages."""
    told = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "ruby-bundler"], capture_output=True, text=True, check=True
    )
    return re.split(r"[-+~]", told.stdout)[0]
