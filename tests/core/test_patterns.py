"""Patterns from a file: safe before they see a text, and blind to umlauts."""

from __future__ import annotations

import pytest

from cpa.core.folding import distance, fold, spellings
from cpa.core.patterns import UnsafePattern, compile_pattern


@pytest.mark.parametrize(
    "source",
    [
        r"(a+)+",
        r"(a|a)*",
        r"(a|ab)*",
        r"(.*a){20}",
        r".*.*.*.*",
        r"(a?){30}",
        r"(a{1,30}){1,30}",
        r"(a)\1",
        "(",
        "[äb]",
        "a" * 3_000,
    ],
)
def test_what_could_hang_or_is_broken_is_refused_with_a_remedy(source: str) -> None:
    with pytest.raises(UnsafePattern) as caught:
        compile_pattern(source)
    assert caught.value.remedy


def test_umlauts_match_every_spelling_and_names_of_groups_stay() -> None:
    pattern = compile_pattern(r"Rechnung für (?P<Kunde>\S+)")
    for text in ("Rechnung für X", "RECHNUNG FUER X", "rechnung fur X"):
        found = pattern.search(fold(text))
        assert found is not None
        assert found["Kunde"] == "x"


def test_folding_and_distance() -> None:
    assert fold("Größe Ängste CAFÉ") == "groesse aengste cafe"
    assert spellings("für") == ("fuer", "fur")
    assert [
        distance(a, b, 2) for a, b in (("send", "sned"), ("a", "abcd"), ("hole", "hold"), ("x", "x"))
    ] == [1, 3, 1, 0]
