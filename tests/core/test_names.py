"""Names by which people and agents are told apart: none can be taken for another."""

from __future__ import annotations

import pytest

from cpa.core.names import alike, deceives, sendable


@pytest.mark.parametrize(
    "name",
    [
        "r\u0435\u0441-1",
        "\uff52echner",
        "\U0001d42bechner",
        "rechner-\u0661",
        "\u03b1rechner",
        "\ufb01rma",
        "anna ",
        " anna",
        "anna\u200b",
        "an\u202ena",
        "an\nna",
        "jo\u0308rg",
    ],
)
def test_signs_that_look_like_others_deceive(name: str) -> None:
    assert deceives(name)


@pytest.mark.parametrize(
    "name",
    [
        "größe-ß",
        "бухгалтерия-1",
        "経理ロボット2",
        "λογιστής",
        "browser-1@büro",
        "Anna Jäger",
        "agent://web/a",
    ],
)
def test_any_one_alphabet_deceives_nobody(name: str) -> None:
    assert not deceives(name)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("anna", "Anna"),
        ("JÖRG", "jörg"),
        ("Νίκος", "νίκος"),
        ("Straße", "STRASSE"),
        ("coco", "сосо"),
        ("BETA", "ВЕТА"),
        ("NIKO", "ΝΙΚΟ"),
        ("anna", "\u0430nna"),
        ("jörg", "jo\u0308rg"),
        ("Anna Maria", "anna  maria"),
        ("anna", "an\u200bna"),
        ("anna", "\uff41nna"),
    ],
)
def test_names_that_look_the_same_are_alike(name: str, other: str) -> None:
    assert alike(name, other)
    assert alike(other, name)
    assert alike(name, name)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("anna", "hanna"),
        ("jörg", "jorg"),
        ("müller", "mueller"),
        ("bot-1", "bot-2"),
        ("Вера", "Вика"),
        ("", "a"),
    ],
)
def test_other_names_are_not(name: str, other: str) -> None:
    assert not alike(name, other)


def test_keys_are_sent_in_visible_ascii_signs_alone() -> None:
    assert sendable("")
    assert sendable("cpa_A-z.0!~")
    assert not any(
        map(sendable, ("tok ", " tok", "to\tk", "tok\r", "tök", "tok\x7f", "tok\xa0", "tok\udcff"))
    )
