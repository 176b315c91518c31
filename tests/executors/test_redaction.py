"""Every spelling of a secret is found, and nothing else."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from cpa.core.classes import FailureClass
from cpa.executors.redaction import LONGEST_MESSAGE, redact, redact_result, redact_text
from cpa.ports.executor import ExecutionResult

SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=30)


@given(SECRETS)
def test_every_spelling_of_a_secret_is_found(secret: str) -> None:
    spellings = [
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(secret))[3:-3],
        json.dumps(json.dumps(secret, ensure_ascii=False), ensure_ascii=False)[3:-3],
        quote(secret, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote(secret, safe="/!*'()~")),
        quote_plus(secret),
        quote(quote(secret, safe=""), safe=""),
        html.escape(secret),
        html.escape(secret).replace("&#x27;", "&#39;"),
        json.dumps(quote_plus(secret))[1:-1],
        repr(secret)[1:-1],
        repr(secret.encode())[2:-1],
        secret.encode().hex(),
    ]
    for spelling in spellings:
        assert redact_text(f"<{spelling}>", [secret]) == "<[secret]>", spelling


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=10, max_size=30), st.text(max_size=5))
def test_a_secret_inside_base64_is_found(secret: str, user: str) -> None:
    if not user.isascii():
        user = ""
    encoded = base64.b64encode(f"{user}:{secret}".encode()).decode()
    assert "[secret]" in redact_text(f"Authorization: Basic {encoded}", [secret])


def test_other_text_stays_as_it_is() -> None:
    text = 'Größe {"a": "b%20c"} geheim'
    assert redact_text(text, []) == text
    assert redact_text(text, ["", "abc", "geheim2"]) == text


def test_the_longer_of_two_secrets_goes_as_a_whole() -> None:
    assert redact_text("passwort passwort1", ["passwort", "passwort1"]) == "[secret] [secret]"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=10, max_size=30), st.text(max_size=5))
def test_nothing_of_a_secret_is_left_in_base64(secret: str, user: str) -> None:
    if not user.isascii():
        user = ""
    encoded = base64.b64encode(f"{user}:{secret}".encode()).decode()
    left = redact_text(encoded, [secret])
    begun, _, ended = left.partition("[secret]")
    assert ended == ""
    assert encoded.startswith(begun)
    assert len(begun) * 6 <= (len(user) + 1) * 8


def test_base64_for_urls_is_found() -> None:
    secret = "ÿþ?>ÿþ?>ÿþ"
    encoded = base64.urlsafe_b64encode(secret.encode()).decode()
    assert "[secret]" in redact_text(encoded, [secret])


def test_a_value_is_redacted_at_any_depth_in_keys_and_numbers_too() -> None:
    value = {"a": [{"pin-4711": (4711, 47.0, True, None)}], "b": "4711"}
    assert redact(value, ["4711"]) == {
        "a": [{"pin-[secret]": ["[secret]", 47.0, True, None]}],
        "b": "[secret]",
    }


def test_the_fields_of_a_result_keep_their_names() -> None:
    result = ExecutionResult(success=True, result={"text": "this text", "headers": {"text": "x"}})
    assert redact_result(result, ["text"]).result == {
        "text": "this [secret]",
        "headers": {"[secret]": "x"},
    }


def test_an_error_is_redacted_before_it_is_cut() -> None:
    for begin in range(LONGEST_MESSAGE - 10, LONGEST_MESSAGE):
        message = "x" * begin + "hunter2-geheim"
        result = redact_result(
            ExecutionResult.failed(FailureClass.BUSINESS, "no", message, details={"said": message}),
            ["hunter2-geheim"],
        )
        assert result.error is not None
        assert "hunt" not in result.error.message
        assert len(result.error.message) <= LONGEST_MESSAGE
        assert result.error.details["said"] == "x" * begin + "[secret]"
