"""The table of actions: aliases, slots, effects, and helpful refusals."""

from __future__ import annotations

import pytest

from cpa.core.actions import (
    ALIASES,
    CATALOGUE,
    UI_TIMEOUT,
    ActionCatalogue,
    ActionSpec,
    ActionType,
    ArgumentSpec,
    ArgumentType,
    Slot,
)
from cpa.core.classes import EffectClass
from cpa.errors import BadInput, InvalidDocument

FILE = {"artifact": "sha256:" + "0" * 64, "size": 1}


@pytest.mark.parametrize(
    ("name", "do", "canonical"),
    [
        ("web.click", "", "web.click"),
        ("open_app", "", "desktop.open_app"),
        ("click", "", "desktop.click"),
        ("type", "", "desktop.type"),
        ("wait_for", "", "desktop.wait_for"),
        ("uia", "", "desktop.uia"),
        ("uia", "invoke", "desktop.uia"),
        ("playwright", "goto", "web.goto"),
        (ActionType.PLAYWRIGHT, "download", "web.download"),
        ("send_mail", "", "mail.send"),
        (ActionType.SEND_MAIL, "", "mail.send"),
    ],
)
def test_every_name_leads_to_one_action(name: str, do: str, canonical: str) -> None:
    assert canonical == CATALOGUE.canonical(name, do)
    assert canonical == CATALOGUE.get(name, do).name


def test_every_short_name_has_an_alias() -> None:
    assert [member.value for member in ActionType] == list(ALIASES)


@pytest.mark.parametrize(
    ("name", "do", "field", "remedy"),
    [
        ("web.klick", "", "action", "Did you mean web.click"),
        ("Web.Click", "", "action", "Did you mean web.click"),
        ("browser.screenshot", "", "action", "web.screenshot"),
        ("qqqqqqqq", "", "action", "Known actions: desktop.click"),
        ("", "", "action", "Known actions"),
        ("x" * 100_000, "", "action", "Known actions"),
        ("playwright", "", "do", "goto, click, fill"),
        ("playwright", "fly", "do", "goto, click, fill"),
    ],
)
def test_an_unknown_action_names_what_there_is(name: str, do: str, field: str, remedy: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        CATALOGUE.canonical(name, do)

    assert field == caught.value.field
    assert remedy in str(caught.value.remedy)
    assert len(caught.value.message) < 200


def test_the_field_of_the_document_is_named() -> None:
    with pytest.raises(InvalidDocument) as unknown:
        CATALOGUE.get("nope", field="tasks[2].action")
    with pytest.raises(InvalidDocument) as without_do:
        CATALOGUE.get("playwright", field="tasks[2].action")

    assert unknown.value.field == "tasks[2].action"
    assert without_do.value.field == "tasks[2].do"


def test_an_alias_of_an_action_that_is_not_offered_is_unknown() -> None:
    with pytest.raises(InvalidDocument):
        ActionCatalogue(aliases=ALIASES).canonical("click")


def test_new_actions_need_no_change_of_the_table() -> None:
    spec = ActionSpec(name="erp.book-invoice", summary="Book.", results=("number",))

    catalogue = CATALOGUE.with_actions(spec)

    assert catalogue.get("erp.book-invoice") is spec
    assert "erp.book-invoice" not in CATALOGUE
    assert len(catalogue) == len(CATALOGUE) + 1
    assert [*CATALOGUE, spec] == list(catalogue)
    assert catalogue.canonical("send_mail") == "mail.send"


def test_a_new_action_is_distrusted_until_it_says_otherwise() -> None:
    spec = ActionSpec(name="erp.book", summary="")

    assert (spec.effect, spec.tainted_result, spec.timeout) == (EffectClass.UNSAFE, True, UI_TIMEOUT)


@pytest.mark.parametrize("name", ["book", "Erp.book", "erp.", "erp book.x", ".erp", ""])
def test_a_bad_action_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        CATALOGUE.with_actions(ActionSpec(name=name, summary=""))

    assert caught.value.field == "name"


def test_an_own_action_is_known_without_being_listed_and_distrusted() -> None:
    spec = CATALOGUE.get("x.calculator.add")

    assert (spec.name, spec.effect, spec.tainted_result, spec.results) == (
        "x.calculator.add",
        EffectClass.UNSAFE,
        True,
        (),
    )
    anything = spec.argument("summand")
    assert anything is not None
    assert (anything.slot, anything.type) == (Slot.DATA, ArgumentType.ANY)
    assert "x.calculator.add" not in CATALOGUE


def test_an_own_action_that_was_given_a_spec_keeps_it() -> None:
    own = ActionSpec(name="x.erp.read", summary="Reads.", effect=EffectClass.IDEMPOTENT)

    assert CATALOGUE.with_actions(own).get("x.erp.read") is own


@pytest.mark.parametrize("name", ["x.", "x", "x.Add", "x..add", "x.a b", "y.calculator.add", "x." + "a" * 99])
def test_what_only_resembles_an_own_action_is_unknown(name: str) -> None:
    with pytest.raises(InvalidDocument, match=r"unknown action.*Own actions begin with `x\.`"):
        CATALOGUE.get(name)


def test_an_action_cannot_be_redefined() -> None:
    with pytest.raises(BadInput, match="exists already"):
        CATALOGUE.with_actions(ActionSpec(name="mail.send", summary="looser"))


@pytest.mark.parametrize(
    ("action", "control", "data"),
    [
        ("web.goto", {"url"}, set()),
        ("web.click", {"selector"}, set()),
        ("web.fill", {"selector"}, {"text"}),
        ("web.select", {"selector"}, {"value"}),
        ("web.wait_for", {"selector", "url", "state", "unless"}, {"text"}),
        ("web.extract", {"selector", "what", "attribute"}, set()),
        ("web.download", {"selector", "url", "media_type"}, set()),
        ("web.screenshot", {"selector", "full_page"}, set()),
        ("mail.send", {"to", "cc", "bcc", "account"}, {"subject", "text", "attachments"}),
        (
            "mail.search",
            {"folder", "unseen", "limit", "account"},
            {"subject", "sender", "to", "text", "since"},
        ),
        ("mail.read", {"folder", "account"}, {"uid"}),
        ("file.read", {"path"}, set()),
        ("file.write", {"path"}, {"text", "file"}),
        ("file.move", {"source", "target"}, set()),
        ("http.request", {"method", "url", "headers", "schema", "save"}, {"json", "form"}),
    ],
)
def test_what_decides_is_apart_from_what_is_carried(action: str, control: set[str], data: set[str]) -> None:
    arguments = CATALOGUE.get(action).arguments

    assert control == {name for name, spec in arguments.items() if spec.slot is Slot.CONTROL}
    assert data == {name for name, spec in arguments.items() if spec.slot is Slot.DATA}


def test_results_from_outside_are_tainted() -> None:
    trusted = {spec.name for spec in CATALOGUE if not spec.tainted_result}

    assert {"mail.send", "file.write", "file.move", "flow.noop", "person.ask"} == trusted
    assert [spec.name for spec in CATALOGUE if spec.passes_taint] == ["flow.noop"]


@pytest.mark.parametrize(
    ("action", "arguments", "effect"),
    [
        ("web.click", {}, "unsafe"),
        ("web.goto", {}, "idempotent"),
        ("mail.send", {}, "verifiable"),
        ("mail.read", {}, "idempotent"),
        ("file.move", {}, "verifiable"),
        ("flow.noop", {}, "idempotent"),
        ("http.request", {}, "idempotent"),
        ("http.request", {"method": " get "}, "idempotent"),
        ("http.request", {"method": "DELETE"}, "idempotent"),
        ("http.request", {"method": "POST"}, "unsafe"),
        ("http.request", {"method": "patch"}, "unsafe"),
        ("http.request", {"method": "{{ tasks.a.result.value }}"}, "unsafe"),
        ("http.request", {"method": 5}, "unsafe"),
    ],
)
def test_the_effect_follows_action_and_arguments(
    action: str, arguments: dict[str, object], effect: str
) -> None:
    assert EffectClass(effect) is CATALOGUE.get(action).effect_of(arguments)


def test_only_an_open_action_takes_arguments_it_does_not_list() -> None:
    assert CATALOGUE.get("web.goto").argument("other") is None
    assert CATALOGUE.get("web.goto").argument("url") is not None
    anything = CATALOGUE.get("flow.noop").argument("other")
    assert isinstance(anything, ArgumentSpec)
    assert (anything.slot, anything.type) == (Slot.DATA, ArgumentType.ANY)


@pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)
def test_the_table_is_consistent(spec: ActionSpec) -> None:
    for group in (*spec.one_of, *spec.at_most_one):
        assert set(group) <= set(spec.arguments)
        assert not any(spec.arguments[name].required for name in group)
    assert set(spec.shorthands.values()) <= set(spec.arguments)
    assert spec.timeout > 0
    assert spec.summary.endswith(".")


@pytest.mark.parametrize(
    ("type", "good", "bad"),
    [
        ("text", ["a", "", 5, 1.5], [True, None, ["a"], {}]),
        ("texts", ["a", ["a", 5], []], [[True], [["a"]], {}, None]),
        ("number", [5, 1.5], ["5", True, None]),
        ("flag", [True, False], [1, "true", None]),
        ("object", [{}, {"a": 1}], [[], "a", None]),
        ("file", [FILE], ["sha256:0", {}, {"artifact": 1}, [FILE]]),
        ("files", [FILE, [FILE, FILE], []], ["a", ["a"], [{}]]),
        ("any", [None, 1, "a", [], {}], []),
    ],
)
def test_a_type_accepts_its_values(type: str, good: list[object], bad: list[object]) -> None:
    kind = ArgumentType(type)

    assert [True] * len(good) == [kind.accepts(value) for value in good]
    assert [False] * len(bad) == [kind.accepts(value) for value in bad]
    assert kind.accepts({"secret": "portal"})
