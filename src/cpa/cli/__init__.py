"""`cpa`: the command line. It parses, calls the API (without a server: the core and the store), and renders.

Exit codes: 0 all well; 1 the job failed, or the answer is no; 2 wrong usage or input; 3 no server answers;
4 not allowed. Errors are one line on stderr with what to do about them. Everything heavy is imported by the
command that needs it, so that `cpa --help` is there at once.
"""

from __future__ import annotations


def main() -> None:
    """The console script."""
    from cpa.cli.commands import run
    from cpa.cli.ending import leave

    try:
        run()
    except SystemExit as end:
        leave(end.code)
        raise
