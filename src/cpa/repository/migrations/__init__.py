"""Schema revisions, oldest first. Developers: `uv run alembic -c src/cpa/repository/migrations/alembic.ini -x
store=FILE upgrade head` (or `history`, `revision`)."""

from __future__ import annotations

REVISIONS: tuple[str, ...] = ("0001", "0002", "0003", "0004")
"""Every revision this code knows; the last is that of `tables.py`. A test compares it with the scripts."""
