"""Dovecot and the SMTP server together, in this process or as a program of their own.

with MailServer(folder) as mail: ...

python -m tests.servers.mail FOLDER     prints {"smtp": port, "imap": port, "lmtp": port, "folder": …}
as one JSON line when ready; ends on SIGTERM, SIGINT or the end of its input
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType

from tests.servers.dovecot import Dovecot
from tests.servers.smtp import SmtpServer


class MailServer:
    """Context manager: what `smtp` accepts lies in `dovecot`'s mailboxes, one per recipient address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dovecot = Dovecot()
        self.smtp = SmtpServer(folder / "smtp", lmtp_port=self.dovecot.lmtp_port)
        self._stack = ExitStack()

    def __enter__(self) -> MailServer:
        with ExitStack() as stack:
            self.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(self.dovecot)
            stack.enter_context(self.smtp)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def main() -> None:
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with MailServer(Path(sys.argv[1]).resolve()) as mail:
        where = {
            "smtp": mail.smtp.port,
            "imap": mail.dovecot.imap_port,
            "lmtp": mail.dovecot.lmtp_port,
            "folder": str(mail.smtp.folder),
        }
        print(json.dumps(where), flush=True)
        threading.Thread(target=watch, daemon=True).start()
        ended.wait()


if __name__ == "__main__":
    main()
