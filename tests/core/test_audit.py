from __future__ import annotations

import hashlib
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpa.core import events as facts
from cpa.core.audit import UPCASTS, ActionLogged, entry, erased, kind, seal, unseal, verify
from cpa.core.classes import FailureClass
from cpa.core.job import SCHEMA
from cpa.errors import InternalError, Unavailable
from cpa.ports.engine import StoredEvent

SALT = bytes(range(16))
T = 1_700_000_000_000

PLAIN: tuple[facts.Event, ...] = (
    facts.JobSubmitted(time=T, tenant="acme", job="j1", spec="ab", tasks=2),
    facts.JobStarted(time=T),
    facts.AgentChosen(time=T, task=0, epoch=1, agent="agent://web/eins"),
    facts.DispatchDeferred(time=T, task=0, epoch=1, reason="no_agent", after=500),
    facts.TaskStarted(time=T, task=0, epoch=1),
    facts.TaskRefused(time=T, task=0, epoch=1),
    facts.LeaseLost(time=T, task=0, epoch=1, reason="gone"),
    facts.TimerFired(time=T, key="t0:1:retry"),
    facts.JobReopened(time=T, by="key_1"),
    facts.JobReopened(time=T, by="key_1", dead_letter=True),
    facts.TaskSucceeded(time=T, task=0, epoch=1, duration=12),
    facts.CancelRequested(time=T, by="key_1"),
    ActionLogged(time=T, tenant="acme", actor="key_1", action="key.created", subject="key_2"),
    ActionLogged(time=T, tenant="acme", actor="system", action="config.loaded"),
    facts.JobReopened(time=T, by="key_1", skip=(1,), restart=(0, 2)),
    facts.JobDiscarded(time=T, by="key_1"),
    facts.TaskProposed(time=T, task=0, epoch=1, run_at=T + 5),
    facts.JobSubmitted(time=T, tenant="acme", job="j1", spec="ab", tasks=2, by="Jörg"),
)
PERSONAL: tuple[facts.Event, ...] = (
    facts.TaskSucceeded(time=T, task=1, epoch=1, result={"subject": 'Größe «XL» & "mehr"'}, duration=3),
    facts.TaskFailed(
        time=T, task=1, epoch=2, failure=FailureClass.BUSINESS, code="login_refused", message="Müller: nein."
    ),
    facts.TaskVerified(time=T, task=1, epoch=2, verdict="happened", evidence="Inbox", result={"id": 1}),
    facts.QuestionAnswered(time=T, task=1, epoch=2, yes=True, by="key_1", note="passt"),
    facts.CancelRequested(time=T, by="key_1", reason="Irrtum von Frau Jäger"),
    ActionLogged(
        time=T, tenant="acme", actor="key_1", action="auth.refused", details={"mail": "a@b.example"}
    ),
    facts.QuestionAnswered(time=T, task=1, epoch=2, yes=True, by="key_1", answer={"name": "Jäger"}),
    facts.TaskProposed(time=T, task=1, epoch=2, arguments={"to": "jäger@b.example"}, reason="umgezogen"),
    facts.JobReopened(time=T, by="key_1", fixes={"1": {"to": "jäger@b.example"}}, done={"0": {"x": 1}}),
    facts.JobDiscarded(time=T, by="key_1", note="Frau Jäger hat es selbst getan"),
    facts.TaskRefused(time=T, task=1, epoch=2, reason="Frau Jäger hat den Bildschirm gesperrt"),
)
NAMES = ("result", "message", "evidence", "note", "reason", "details", "answer", "arguments", "fixes", "done")
"""Of personal fields."""


def stored(event: facts.Event, *, with_private: bool = True) -> StoredEvent:
    sealed = seal(event, SALT)
    private = sealed.private if with_private else None
    return StoredEvent("j1", 4, unseal(sealed.body, private), sealed.leaf.hex(), sealed.body)


def test_every_kind_of_event_is_tried_here() -> None:
    tried = {type(event) for event in PLAIN + PERSONAL}
    assert tried == {*get_args(facts.AnyEvent), ActionLogged}


@pytest.mark.parametrize("event", PLAIN, ids=kind)
def test_without_personal_data_the_body_is_the_event_and_needs_no_salt(event: facts.Event) -> None:
    sealed = seal(event)
    assert sealed.body == msgspec.json.encode(event)
    assert sealed.private is None
    assert sealed.leaf == hashlib.sha256(sealed.body).digest()
    assert unseal(sealed.body) == event
    assert verify(sealed.body, None, sealed.leaf)
    assert not erased(sealed.body, None)


@pytest.mark.parametrize("event", PERSONAL, ids=kind)
def test_personal_data_is_covered_by_the_leaf_but_not_in_the_body(event: facts.Event) -> None:
    sealed = seal(event, SALT)
    body = json.loads(sealed.body)
    assert not set(NAMES) & set(body)
    assert sealed.private is not None
    assert body["sealed"] == hashlib.sha256(sealed.private).hexdigest()
    assert sealed.leaf == hashlib.sha256(sealed.body).digest()
    assert verify(sealed.body, sealed.private, sealed.leaf)
    assert unseal(sealed.body, sealed.private) == event
    assert seal(event, SALT) == sealed


def test_the_stored_form_is_this_and_stays_it() -> None:
    """Written out, for stores of today must be readable and provable for ever."""
    sealed = seal(facts.CancelRequested(time=T, by="k", reason="nö"), SALT)
    assert sealed.private == ('{"salt":"000102030405060708090a0b0c0d0e0f","values":{"reason":"nö"}}'.encode())
    digest = hashlib.sha256(sealed.private).hexdigest()
    text = f'{{"event":"cancel_requested","time":{T},"by":"k","sealed":"{digest}"}}'
    assert sealed.body == text.encode()


@pytest.mark.parametrize("event", PERSONAL, ids=kind)
def test_after_erasure_the_leaf_still_proves_the_rest(event: facts.Event) -> None:
    sealed = seal(event, SALT)
    assert verify(sealed.body, None, sealed.leaf)
    assert erased(sealed.body, None)
    assert not erased(sealed.body, sealed.private)
    bare = unseal(sealed.body)
    assert type(bare) is type(event)
    assert bare.time == event.time
    for field in msgspec.structs.fields(bare):
        if field.name in NAMES:
            assert not getattr(bare, field.name)


def test_another_salt_hides_equal_values() -> None:
    event = PERSONAL[0]
    assert seal(event, SALT).leaf != seal(event, SALT[::-1]).leaf


def test_an_empty_result_is_no_secret_and_comes_back_as_it_was() -> None:
    event = facts.TaskSucceeded(time=T, task=0, epoch=1, result={})
    sealed = seal(event)
    assert sealed.private is None
    assert unseal(sealed.body) == event


@pytest.mark.parametrize("salt", [b"", bytes(15)])
def test_personal_data_without_enough_salt_is_a_defect(salt: bytes) -> None:
    with pytest.raises(InternalError, match="salt of at least 16"):
        seal(PERSONAL[0], salt)


@pytest.mark.parametrize("index", range(0, 200, 7))
def test_any_changed_byte_is_noticed(index: int) -> None:
    sealed = seal(PERSONAL[1], SALT)
    assert sealed.private is not None
    for part in (sealed.body, sealed.private):
        at = index % len(part)
        changed = part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :]
        body, private = (changed, sealed.private) if part is sealed.body else (sealed.body, changed)
        assert not verify(body, private, sealed.leaf)


def test_a_private_part_under_an_event_that_has_none_is_noticed() -> None:
    plain, secret = seal(PLAIN[1]), seal(PERSONAL[0], SALT)
    assert not verify(plain.body, secret.private, plain.leaf)


def test_a_leaf_over_bytes_that_are_no_event_does_not_verify_a_private_part() -> None:
    body = b"\xff not json"
    leaf = hashlib.sha256(body).digest()
    assert not verify(body, b"{}", leaf)


@pytest.mark.parametrize(
    ("body", "private"),
    [
        (b"", None),
        (b"{", None),
        (b'{"event":"no_such_event","time":1}', None),
        (b'{"event":"job_started"}', None),
        (b'{"event":"job_started","time":"x"}', None),
        (b'{"event":"job_started","time":1,"schema":"x"}', None),
        (seal(PERSONAL[0], SALT).body, b"{"),
        (seal(PERSONAL[0], SALT).body, b'{"salt":"00","values":{"nonsense":1}}'),
    ],
)
def test_bytes_that_are_no_event_are_refused_with_a_remedy(body: bytes, private: bytes | None) -> None:
    with pytest.raises(InternalError, match="cannot be read") as caught:
        unseal(body, private)
    assert caught.value.remedy


def test_an_event_of_newer_code_is_refused() -> None:
    with pytest.raises(Unavailable, match="schema 99") as caught:
        unseal(b'{"event":"job_started","time":1,"schema":99}')
    assert caught.value.remedy


def test_the_word_schema_in_a_value_is_not_a_number_of_one() -> None:
    event = facts.LeaseLost(time=T, task=0, epoch=1, reason='"schema":99')
    assert unseal(seal(event).body) == event


def test_old_events_are_lifted_number_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(document: dict[str, Any]) -> dict[str, Any]:
        return document | {"by": document.pop("who"), "reason": document["reason"] + "!"}

    def shout(document: dict[str, Any]) -> dict[str, Any]:
        return document | {"reason": document["reason"].upper()}

    monkeypatch.setattr("cpa.core.audit.SCHEMA", 3)
    monkeypatch.setattr("cpa.core.audit.UPCASTS", {1: rename, 2: shout})
    private = b'{"salt":"00","values":{"reason":"nein"}}'
    lifted = unseal(b'{"event":"cancel_requested","time":1,"who":"k","schema":1}', private)
    assert lifted == facts.CancelRequested(time=1, by="k", reason="NEIN!")
    half = unseal(b'{"event":"cancel_requested","time":1,"by":"k","reason":"ja","schema":2}')
    assert half == facts.CancelRequested(time=1, by="k", reason="JA")
    now = unseal(b'{"event":"cancel_requested","time":1,"by":"k","reason":"ja","schema":3}')
    assert now == facts.CancelRequested(time=1, by="k", reason="ja")


def test_every_schema_number_below_todays_has_its_upcast() -> None:
    assert sorted(UPCASTS) == list(range(1, SCHEMA))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(result=st.dictionaries(st.text(), json_values, max_size=4), salt=st.binary(min_size=16, max_size=32))
def test_whatever_the_result_is_it_comes_back_and_verifies(result: dict[str, Any], salt: bytes) -> None:
    event = facts.TaskSucceeded(time=T, task=0, epoch=1, result=result)
    sealed = seal(event, salt)
    assert unseal(sealed.body, sealed.private) == event
    assert verify(sealed.body, sealed.private, sealed.leaf)


# -- telling -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", PLAIN + PERSONAL, ids=kind)
def test_every_entry_is_a_sentence_that_survives_erasure(event: facts.Event) -> None:
    for with_private in (True, False):
        told = entry(stored(event, with_private=with_private), ("login", "fetch"))
        assert told.text[0].isupper() or told.text.startswith(told.by)
        assert (told.time, told.job, told.number, told.type) == (T, "j1", 4, kind(event))
        assert told.leaf == seal(event, SALT).leaf.hex()


def test_an_entry_names_task_agent_and_person() -> None:
    chosen = entry(
        stored(facts.AgentChosen(time=T, task=1, epoch=3, agent="agent://web/a")), ("login", "fetch")
    )
    assert (chosen.task, chosen.agent, chosen.epoch) == ("fetch", "agent://web/a", 3)
    assert chosen.text == "Task fetch given to agent agent://web/a (epoch 3)."
    answered = entry(stored(PERSONAL[3]), ("login", "fetch"))
    assert answered.by == "key_1"
    assert answered.text == "key_1 answered yes for task fetch: passt"
    no = facts.QuestionAnswered(time=T, task=0, epoch=1, yes=False, by="key_1")
    assert entry(stored(no), ("login",)).text == "key_1 answered no for task login."
    assert entry(stored(no)).details == {}
    yes = facts.QuestionAnswered(time=T, task=0, epoch=1, yes=True, by="key_1", digest="ab" * 32)
    assert entry(stored(yes)).details == {"digest": "ab" * 32}


def test_an_entry_without_the_plan_tells_the_task_by_number() -> None:
    assert entry(stored(PERSONAL[0])).task == "1"
    assert entry(stored(PLAIN[1])).task == ""


def test_an_entry_carries_pictures_and_what_was_logged() -> None:
    event = facts.TaskSucceeded(time=T, task=0, epoch=1, artifacts=("sha256:" + "a" * 64,))
    assert entry(stored(event)).artifacts == ("sha256:" + "a" * 64,)
    logged = entry(stored(PERSONAL[5]), erased=True)
    assert (logged.by, logged.details, logged.erased) == ("key_1", {"mail": "a@b.example"}, True)
    created = entry(stored(PLAIN[12]))
    assert (created.subject, created.text) == ("key_2", "key_1: key.created key_2.")
    assert entry(stored(PLAIN[13])).text == "system: config.loaded."


def test_one_task_is_not_told_as_several() -> None:
    one = facts.JobSubmitted(time=T, tenant="acme", job="j1", spec="ab", tasks=1)
    assert entry(stored(one)).text == "Job accepted with 1 task."
    assert entry(stored(PLAIN[0])).text == "Job accepted with 2 tasks."
    assert (entry(stored(PLAIN[0])).by, entry(stored(PLAIN[-1])).by) == ("", "Jörg")


def test_a_reopening_tells_what_was_changed() -> None:
    tasks = ("login", "pay", "mail")
    plain = facts.JobReopened(time=T, by="anna")
    dead = facts.JobReopened(time=T, by="anna", dead_letter=True, skip=(2,), restart=(0, 7))
    hand = facts.JobReopened(time=T, by="anna", fixes={"2": {"to": "x"}, "1": {}}, done={"0": {}})
    assert entry(stored(plain), tasks).text == "anna opened the next run."
    assert entry(stored(dead), tasks).text == (
        "anna opened the next run from the dead letters; left out: mail; done again: login, 7."
    )
    assert entry(stored(hand), tasks).text == (
        "anna opened the next run; with other arguments: pay, mail; done by hand: login."
    )
    assert entry(stored(hand, with_private=False), tasks).text == "anna opened the next run."
