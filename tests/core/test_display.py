"""What people see of arguments."""

from __future__ import annotations

import pytest

from cpa.core.display import displayed


def test_what_may_be_a_credential_is_hidden_and_its_origin_shown() -> None:
    arguments = {
        "url": "http://x.example",
        "headers": {
            "Authorization": "Bearer geheim",
            "X-Pin": 4711,
            "X-Key": {"secret": "portal", "prefix": "Bearer "},
            "X-Token": "{{ tasks.login.result.token }}",
            "X-Mixed": "geheim {{ tasks.login.result.token }}",
            "X-None": None,
        },
        "json": {"text": "bleibt"},
    }

    shown = displayed("http.request", arguments)

    assert shown == {
        "url": "http://x.example",
        "headers": {
            "Authorization": "[hidden]",
            "X-Pin": "[hidden]",
            "X-Key": {"secret": "portal", "prefix": "Bearer "},
            "X-Token": "{{ tasks.login.result.token }}",
            "X-Mixed": "[hidden]",
            "X-None": None,
        },
        "json": {"text": "bleibt"},
    }
    assert displayed("http.request", {"headers": "Authorization: x"}) == {"headers": "[hidden]"}
    assert displayed("http.request", {"url": "x"}) == {"url": "x"}
    assert displayed("x.own.action", {"headers": "x"}) == {"headers": "x"}


def test_what_is_named_like_a_credential_is_hidden_at_any_depth() -> None:
    arguments = {
        "json": {"user": "Jürgen", "Passwort": "geheim", "list": [{"api-key": 5, "n": 1}], "key": "bleibt"},
        "form": {"token": {"secret": "own"}, "secret": "x", "also": "y"},
        "value": {"secret": "own", "prefix": "Bearer "},
        "number": 5,
    }

    assert displayed("http.request", arguments) == {
        "json": {
            "user": "Jürgen",
            "Passwort": "[hidden]",
            "list": [{"api-key": "[hidden]", "n": 1}],
            "key": "bleibt",
        },
        "form": {"token": {"secret": "own"}, "secret": "[hidden]", "also": "y"},
        "value": {"secret": "own", "prefix": "Bearer "},
        "number": 5,
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://a.example/?apikey=geheim&n=1#x", "https://a.example/?apikey=[hidden]&n=1#x"),
        ("https://a.example/?n=1&access_token=a%20b", "https://a.example/?n=1&access_token=[hidden]"),
        ("https://a.example/token=x?page=2", "https://a.example/token=x?page=2"),
        ("my ?token=x is no address", "my ?token=x is no address"),
    ],
)
def test_such_a_parameter_of_an_address_is_hidden(text: str, shown: str) -> None:
    assert displayed("web.goto", {"url": text}) == {"url": shown}
