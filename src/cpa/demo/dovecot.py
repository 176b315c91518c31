"""A real Dovecot for the demo: one foreground process tree with a configuration of its own.

It listens for IMAP on a free loopback port and takes mail by LMTP on its own socket. Every user exists, all
with the same password. Its files lie in a temporary folder: Dovecot's mail processes run as an unprivileged
user who often cannot enter the folder the demo was started in.

The process tree cannot outlive its owner. A small shell stands between: it reads from a pipe the owner holds,
and ends Dovecot when the pipe closes, whether the owner closed it or was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from cpa.demo.serving import bind
from cpa.errors import Unavailable

_WATCH = """
exec 3<&0
"$1" -F -c "$2" 3<&- </dev/null &
server=$!
{ cat <&3 >/dev/null; kill "$server"; } 2>/dev/null &
wait "$server"
"""
_START_SECONDS = 15.0
_STOP_SECONDS = 10.0


def find_dovecot() -> str | None:
    """Path of the installed Dovecot, if it can be used: with IMAP and LMTP, and by root."""
    program = shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    parts = [Path("/usr/lib/dovecot") / part for part in ("imap", "imap-login", "lmtp")]
    usable = program and os.geteuid() == 0 and all(part.exists() for part in parts)
    return program if usable else None


class Dovecot:
    """A running Dovecot."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self.folder, self.port, self.password = folder, port, password

    @property
    def lmtp(self) -> str:
        """Path of the socket that takes mail."""
        return str(self.folder / "run" / "lmtp")

    @property
    def mail(self) -> Path:
        """The Maildirs, one folder per user."""
        return self.folder / "mail"

    @property
    def log(self) -> Path:
        return self.folder / "dovecot.log"


@asynccontextmanager
async def run_dovecot(program: str, password: str, *, port: int = 0) -> AsyncIterator[Dovecot]:
    """Run Dovecot while the block runs; every user has this password. Port 0 takes a free one.

    Afterwards no process and no file of it is left. Raises `Unavailable` when the port is taken, and with the end
    of its log when it does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="cpa-mail-"))
    try:
        server = Dovecot(folder, _port(port), password)
        _prepare(server)
        process = await _start(program, server)
        try:
            await _until_ready(server, process)
            yield server
        finally:
            await _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _start(program: str, server: Dovecot) -> asyncio.subprocess.Process:
    with (server.folder / "output.log").open("wb") as output:
        return await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            _WATCH,
            "mailbox",
            program,
            str(server.folder / "dovecot.conf"),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


async def _until_ready(server: Dovecot, process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                if await _greets(server):
                    return
                await asyncio.sleep(0.02)
    said = "".join(
        path.read_text("utf-8", errors="replace")
        for path in (server.folder / "output.log", server.log)
        if path.exists()
    )
    raise Unavailable(
        f"Dovecot did not start: {said.strip()[-500:] or 'it said nothing'}",
        remedy="Run the demo with --mail embedded, or mend the Dovecot installation.",
    )


async def _greets(server: Dovecot) -> bool:
    try:
        reader, writer = await asyncio.open_connection(server.host, server.port)
    except OSError:
        return False
    try:
        return (await reader.readline()).startswith(b"* OK")
    except OSError:
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close the pipe, which ends Dovecot; after a while, kill the whole group."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        os.killpg(process.pid, 9)
        await process.wait()


def _port(wanted: int) -> int:
    """One that is free now: Dovecot binds it by itself, and says little when it cannot."""
    with closing(bind(wanted, "mailbox")) as probe:
        port: int = probe.getsockname()[1]
    return port


def _prepare(server: Dovecot) -> None:
    """The configuration, and folders that the mail processes may enter."""
    server.folder.chmod(0o755)
    server.mail.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(server.mail, nobody.pw_uid, nobody.pw_gid)
    (server.folder / "dovecot.conf").write_text(_configuration(server), "utf-8")


def _configuration(server: Dovecot) -> str:
    """Dovecot wants every brace and every setting on a line of its own."""
    return f"""protocols = imap lmtp
listen = {server.host}
base_dir = {server.folder / "run"}
state_dir = {server.folder / "run"}
instance_name = cpa-demo-{server.port}
log_path = {server.log}
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = maildir:{server.mail}/%u
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
passdb {{
  driver = static
  args = password={server.password}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={server.mail}/%u allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {server.port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""
