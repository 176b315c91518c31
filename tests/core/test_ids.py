"""Derived ids: the same parts give the same id, on every machine."""

from __future__ import annotations

from uuid import UUID

import pytest

from cpa.core.ids import derived_id, fraction, idempotency_key, shown


def test_an_id_follows_from_its_parts() -> None:
    assert derived_id("job", 1) == UUID("7fa9b677-51f2-5f9d-8c14-f2e729413edd")
    assert derived_id("job", 1) == derived_id("job", "1")
    assert derived_id("job", 1).version == 5


def test_parts_do_not_run_into_each_other() -> None:
    assert derived_id("ab", "c") != derived_id("a", "bc")
    assert idempotency_key("ab", "c", "t") != idempotency_key("a", "bc", "t")
    assert fraction("ab", "c") != fraction("a", "bc")


def test_an_idempotency_key_is_the_same_over_the_attempts_of_a_run_and_another_in_the_next() -> None:
    key = idempotency_key("default", "job-1", "mail")

    assert key == idempotency_key("default", "job-1", "mail", 0)
    assert len(key) == 32
    assert int(key, 16)
    others = {
        key,
        idempotency_key("default", "job-1", "mail", 1),
        idempotency_key("default", "job-1", "größe"),
        idempotency_key("default", "job-2", "mail"),
        idempotency_key("other", "job-1", "mail"),
    }
    assert len(others) == 5


def test_a_fraction_is_spread_over_zero_to_one() -> None:
    found = [fraction("seed", number) for number in range(2_000)]

    assert 0 <= min(found) < 0.01
    assert 0.99 < max(found) < 1
    assert 0.48 < sum(found) / len(found) < 0.52


@pytest.mark.parametrize("name", ["", "job-1", "größe", "\U0001f600"])
def test_a_name_that_is_a_text_is_shown_as_it_is(name: str) -> None:
    assert shown(name) == name


@pytest.mark.parametrize("name", ["a\udcff", "b\ud800", "\ud83d\ude00"])
def test_one_that_is_none_is_shown_as_another_that_is_a_text(name: str) -> None:
    assert shown(name) != name
    assert shown(name).encode()
