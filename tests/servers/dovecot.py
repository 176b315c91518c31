"""A real Dovecot (Debian: dovecot-imapd, dovecot-lmtpd) in the foreground, on free ports, in a folder of
its own.

Every user name exists and has the password `secret`; mail arrives over LMTP. Needs root, because Dovecot
changes to the user nobody itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.servers.ports import answers, free_port, wait_until

PASSWORD = "secret"

_CONFIGURATION = """
protocols = imap lmtp
listen = 127.0.0.1
base_dir = {run}
state_dir = {run}
log_path = {log}
instance_name = {name}
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_username_format = %Lu
mail_location = maildir:{mail}/%u
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
mail_fsync = never
mail_max_userip_connections = 200
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
default_vsz_limit = 1G
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={mail}/%u allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
  mailbox Erledigt {{
    auto = create
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


class Dovecot:
    """Context manager; `imap_port` and `lmtp_port` answer inside the block, nothing runs after it."""

    def __init__(self) -> None:
        self.folder = Path()
        """Where it lives, inside the block; `mail/<user>` is that user's Maildir."""
        self.imap_port = free_port()
        self.lmtp_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def imap_url(self, user: str) -> str:
        """The URL of this user's mailbox, with the password."""
        return f"imap://{user.replace('@', '%40')}:{PASSWORD}@127.0.0.1:{self.imap_port}"

    def __enter__(self) -> Dovecot:
        program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise RuntimeError("dovecot is missing: apt-get install dovecot-imapd dovecot-lmtpd")
        self.folder = Path(tempfile.mkdtemp(prefix="cpa-dovecot-"))
        configuration = self._configure()
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [program, "-F", "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(self._ready, "Dovecot listens")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _configure(self) -> Path:
        mail, run = self.folder / "mail", self.folder / "run"
        for folder in (mail, run):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.chown(mail, "nobody", "nogroup")
        self.folder.chmod(0o711)
        configuration = self.folder / "dovecot.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                run=run,
                mail=mail,
                log=self.folder / "log",
                name=f"test-{os.getpid()}-{self.imap_port}",
                password=PASSWORD,
                imap=self.imap_port,
                lmtp=self.lmtp_port,
            )
        )
        return configuration

    def _ready(self) -> bool:
        process = self._process
        if process is not None and process.poll() is not None:
            told = (self.folder / "output").read_text(errors="replace")
            raise RuntimeError(f"dovecot ended with {process.returncode}: {told[-2000:]}")
        return answers(self.imap_port) and answers(self.lmtp_port)

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)
