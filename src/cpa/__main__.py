"""`python -m cpa` is `cpa`."""

from __future__ import annotations

from cpa.cli import main

if __name__ == "__main__":
    main()
