"""Lines are JSON, carry the context, come from every library alike, and never show a secret."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from cpa.errors import BadInput
from cpa.telemetry.logs import MASK, bound, configure, correlation_id

SECRET = 'Grün"7/Käse+ß'


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("DEBUG", known=lambda: [SECRET, "hunter2hunter2"], stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def last(stream: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
    return line


def test_a_line_is_json_with_what_the_context_binds(lines: io.StringIO) -> None:
    with bound(correlation="c-1", job="j"):
        structlog.stdlib.get_logger("cpa.test").info("begun", größe=3)
    line = last(lines)

    assert (line["event"], line["correlation"], line["job"], line["größe"]) == ("begun", "c-1", "j", 3)
    assert (line["level"], line["logger"]) == ("info", "cpa.test")
    assert line["time"].endswith("Z")


def test_what_was_bound_is_gone_afterwards(lines: io.StringIO) -> None:
    with bound(correlation="c-1"):
        pass
    structlog.stdlib.get_logger("cpa.test").info("later")

    assert "correlation" not in last(lines)


def test_lines_of_other_libraries_pass_through_the_same_chain(lines: io.StringIO) -> None:
    with bound(correlation="c-2"):
        logging.getLogger("uvicorn.error").warning("lost %s", SECRET)
    line = last(lines)

    assert (line["event"], line["correlation"], line["level"]) == (f"lost {MASK}", "c-2", "warning")


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        SECRET.encode().hex(),
        repr(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
    ],
)
def test_a_secret_is_masked_in_every_form_and_depth(shown: str, lines: io.StringIO) -> None:
    structlog.stdlib.get_logger("cpa.test").info(
        f"got {shown}", deep={"list": [{"item": f"x{shown}y"}]}, it=ValueError(shown)
    )

    written = lines.getvalue()
    assert MASK in written
    assert shown not in written
    assert json.dumps(shown)[1:-1] not in written


def test_a_secret_in_a_traceback_is_masked(lines: io.StringIO) -> None:
    try:
        raise RuntimeError(f"login with {SECRET} refused")
    except RuntimeError:
        structlog.stdlib.get_logger("cpa.test").exception("failed")

    written = lines.getvalue()
    assert "RuntimeError" in written
    assert "Traceback" in written
    assert SECRET not in written


@pytest.mark.parametrize(
    "name", ["password", "Passwort", "authorization", "X-API-Key", "api_key", "cookie", "access_token"]
)
def test_a_field_named_like_a_credential_is_masked_whatever_it_holds(name: str, lines: io.StringIO) -> None:
    structlog.stdlib.get_logger("cpa.test").info("sent", headers={name: "unbekannt"})

    assert last(lines)["headers"] == {name: MASK}


def test_our_own_keys_are_masked_wherever_they_stand(lines: io.StringIO) -> None:
    structlog.stdlib.get_logger("cpa.test").info("called with cpa_" + "a1B2" * 12)

    assert last(lines)["event"] == f"called with {MASK}"


def test_a_line_with_halves_of_character_pairs_is_written(lines: io.StringIO) -> None:
    structlog.get_logger().info("job_set_aside", job="\udcff", found={"\ud83d": ValueError("\udc00")})

    line = last(lines)
    assert (line["job"], line["found"]) == ("\\udcff", {"\\ud83d": "\\udc00"})


def test_the_level_is_kept(lines: io.StringIO) -> None:
    configure("WARNING", stream=lines)
    structlog.stdlib.get_logger("cpa.test").info("quiet")
    structlog.stdlib.get_logger("cpa.test").warning("loud")

    assert [json.loads(line)["event"] for line in lines.getvalue().splitlines()] == ["loud"]


def test_an_unknown_level_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match="DEBUG, INFO, WARNING, ERROR"):
        configure("LOUD")


def test_a_person_at_a_terminal_gets_readable_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream, root = Terminal(), logging.getLogger()
    before, level = root.handlers[:], root.level
    configure(known=lambda: [SECRET], stream=stream)
    structlog.stdlib.get_logger("cpa.test").info("Grüße", wer=SECRET)
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()

    assert "Grüße" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("offered", ["abc", "A-b_c.9", "x" * 64])
def test_a_harmless_correlation_id_is_kept(offered: str) -> None:
    assert correlation_id(offered) == offered


@pytest.mark.parametrize("offered", [None, "", "x" * 65, "a b", "a\nb", "ä", 'a"b', "a\n"])
def test_any_other_correlation_id_is_replaced(offered: str | None) -> None:
    made = correlation_id(offered)

    assert made != offered
    assert len(made) == 32
