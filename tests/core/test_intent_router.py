"""What people write, in both languages: no action that was not asked for, and the plain requests understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cpa.config.intents import load_shipped, router_of
from cpa.core.intents import Intent, Reason, RouteContext
from cpa.errors import BadInput, TooLarge

CORPUS = yaml.safe_load((Path(__file__).parent / "utterances.yaml").read_text("utf-8"))
ROUTER = router_of([load_shipped()])
RECALL = 0.95


def requests() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (intent, text, group["arguments"] if not group.get("loose") else {"to": group["arguments"]["to"]})
        for intent, groups in CORPUS["requests"].items()
        for group in groups
        for text in group["texts"]
    ]


def others() -> list[str]:
    return [text for texts in CORPUS["unknown"].values() for text in texts]


def route(text: str, **context: Any) -> Intent:
    return ROUTER.route(text, RouteContext(**context))


def test_the_corpus_is_large() -> None:
    assert len(requests()) >= 200
    assert len(others()) >= 180


def test_plain_requests_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    missed = [(text, route(text)) for intent, text, _ in requests() if route(text).name != intent]
    share = 1 - len(missed) / len(requests())
    with capsys.disabled():
        print(f"\nunderstood: {share:.1%} of {len(requests())} plain requests")
    shown = "\n".join(f"{answer.name} {answer.reason} {answer.detail!r}: {text}" for text, answer in missed)
    assert share >= RECALL, shown


@pytest.mark.parametrize(("intent", "text", "arguments"), requests())
def test_a_request_is_its_intent_or_unknown_and_never_has_other_arguments(
    intent: str, text: str, arguments: dict[str, Any]
) -> None:
    answer = route(text)
    assert answer.name in (intent, "unknown")
    if not answer.unknown:
        assert {name: answer.values()[name] for name in arguments} == arguments
        assert answer.complete
        assert answer.score >= 0.5


@pytest.mark.parametrize("text", others())
def test_what_is_no_request_becomes_no_action(text: str) -> None:
    answer = route(text)
    assert not answer.complete, f"{answer.name} {answer.values()}"
    assert answer.question
    if answer.unknown:
        assert answer.reason is not None
