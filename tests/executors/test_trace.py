from __future__ import annotations

import base64
import html
import json
import re
import zipfile
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.executors.web.trace import MASK, redact_text, redact_zip

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


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def test_names_and_contents_of_entries_are_redacted_and_the_rest_is_kept(tmp_path: Path) -> None:
    binary = bytes(range(256))
    source = archive(tmp_path / "a.zip", plain=binary, **{"x-geheim-y": b"[geheim][gehe%69m][\\u0067eheim]"})
    assert redact_zip(source, tmp_path / "b.zip", {"geheim", ""})
    with zipfile.ZipFile(tmp_path / "b.zip") as found:
        assert found.namelist() == ["plain", "x-[secret]-y"]
        assert found.read("plain") == binary
        assert found.read("x-[secret]-y") == b"[%s]" % MASK * 3


@pytest.mark.parametrize("secret", ["a", "abc"])
def test_a_secret_too_short_to_find_keeps_the_trace_from_being_written(tmp_path: Path, secret: str) -> None:
    assert not redact_zip(archive(tmp_path / "a.zip", x=b"abc"), tmp_path / "b.zip", {secret, "long enough"})
    assert not (tmp_path / "b.zip").exists()
