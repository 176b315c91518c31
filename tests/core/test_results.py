"""Results are of the form their action promises, and name files as files are named."""

from __future__ import annotations

from typing import Any

import pytest

from cpa.core.actions import CATALOGUE
from cpa.core.results import MAX_FILES, files, mistake

FILE = {"artifact": "sha256:" + "ab" * 32, "name": "größe.pdf"}


@pytest.mark.parametrize(
    ("action", "result"),
    [
        ("web.goto", {"url": "https://x.example/", "title": None}),
        ("web.click", {"dialogs": [{"type": "alert", "message": "ä"}], "closed": True}),
        ("web.extract", {"values": FILE, "url": "u"}),
        ("web.extract", {"count": 3}),
        ("web.download", {"file": FILE}),
        ("mail.search", {"messages": [], "count": 0}),
        ("mail.read", {"to": ["a@b.example"], "attachments": [FILE, FILE], "text_truncated": True}),
        ("http.request", {"status": 200, "headers": {"a": "b"}, "json": [1], "text": ""}),
        ("http.request", {"more": object}),
        ("x.rechner.add", {"status": [], "file": 7}),
        ("no.action.of.today", {"file": 7}),
        ("web.screenshot", {}),
    ],
)
def test_what_an_action_gives_is_in_order(action: str, result: dict[str, Any]) -> None:
    assert mistake(action, result) == ""


@pytest.mark.parametrize(
    ("action", "result", "field"),
    [
        ("web.goto", {"url": ["https://x.example/"]}, "url"),
        ("web.goto", {"url": {"secret": "smtp"}}, "url"),
        ("web.click", {"dialogs": {}}, "dialogs"),
        ("web.click", {"closed": "yes"}, "closed"),
        ("web.extract", {"count": "3"}, "count"),
        ("web.download", {"file": "rechnung.pdf"}, "file"),
        ("web.download", {"file": {"artifact": "../../etc/passwd"}}, "file"),
        ("web.download", {"file": {"artifact": "sha256:0"}}, "file"),
        ("mail.search", {"messages": "keine"}, "messages"),
        ("mail.read", {"attachments": [FILE, {"artifact": 7}]}, "attachments"),
        ("mail.send", {"accepted": [1, {}]}, "accepted"),
        ("http.request", {"status": True}, "status"),
        ("http.request", {"headers": []}, "headers"),
        ("file.write", {"size": "9"}, "size"),
    ],
)
def test_what_is_wrong_with_a_result_is_named(action: str, result: dict[str, Any], field: str) -> None:
    assert mistake(action, result).startswith(f"{field} is of the wrong type, not ")


def test_files_are_found_at_any_depth_and_counted() -> None:
    other = "sha256:" + "0" * 64
    assert files({"a": [FILE, ({"artifact": other, "inside": FILE},)], "b": {"artifact": "x"}}) == (
        FILE["artifact"],
        other,
    )
    many = [{"artifact": f"sha256:{number:064x}"} for number in range(MAX_FILES)]
    assert mistake("x.a", {"v": many}) == ""
    assert mistake("x.a", {"v": many, "w": FILE}) == f"it names more than {MAX_FILES} files"


def test_every_name_of_a_result_means_one_thing() -> None:
    """What nobody gave a type is meant to hold anything."""
    free = {name for spec in CATALOGUE for name in spec.results if not mistake(spec.name, {name: object()})}
    assert free == {"value", "values", "json", "window"}
