"""How a process ends in which a library's own threads go on: without taking the interpreter down.

Those of the Temporal library enter the interpreter whenever a call has ended, and nothing stops them. If it is
taken down just then the process crashes, prints a panic or hangs, in whatever order everything was closed before; a
pause helps only as long as the machine is not busy. All that is ours is stored, closed and said by then.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress

_LIBRARY = "temporalio"


def leave(code: object) -> None:
    """End the process with this exit code now, where that library was loaded; else return, to end as any other."""
    if _LIBRARY not in sys.modules or not (code is None or isinstance(code, int)):
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)
