"""From a request to a checked plan, or to an error that says what to do."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest
from tests.orchestrator.fleet import TENANT, remote

from cpa.config.intents import load_shipped, router_of
from cpa.core.classes import EffectClass
from cpa.core.intent_router import IntentRouter
from cpa.core.intents import Intent, IntentDefinition, RouteContext
from cpa.errors import BadInput, CPAError, InvalidDocument, TooLarge, UnknownIntent
from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.planning import Plan, Planner, PlanRequest

VALUES = {
    "portal": {"url": "http://127.0.0.1:8800", "user": "demo"},
    "issues": {"url": "http://127.0.0.1:8900", "user": "admin"},
}
ROUTER = router_of([load_shipped()])
PLANNER = Planner(ROUTER, values=VALUES)
ENGLISH = "Get ACME's latest invoice from the portal and mail it to billing@kunde.example"
GERMAN = "Hole die neueste Rechnung von ACME aus dem Portal und schicke sie an billing@kunde.example"


def plan(text: str = "", **more: Any) -> Plan:
    return PLANNER.plan_now(PlanRequest(text=text, **more))


def arguments(made: Plan, task: str) -> dict[str, Any]:
    return next(t.arguments for t in made.spec.tasks if t.id == task)


async def test_the_sentence_becomes_a_job_that_mails_what_it_downloads() -> None:
    made = await PLANNER.plan(PlanRequest(text=ENGLISH, context={"user": "bob"}))
    assert made.spec.intent == "portal.invoice.mail"
    assert made.spec.description == ENGLISH
    assert made.spec.context == {"user": "bob"}
    assert arguments(made, "open") == {"url": "http://127.0.0.1:8800/login"}
    assert arguments(made, "password")["text"] == {"secret": "portal_password"}
    assert arguments(made, "name")["text"] == "ACME"
    sent = arguments(made, "send")
    assert sent["to"] == ["billing@kunde.example"]
    assert sent["attachments"] == ["{{ tasks.download.result.file }}"]
    assert "cc" not in sent
    assert made.batches[0] == ("open",)
    assert made.batches[-1] == ("send",)
    assert made.secrets == ("portal_password",)
    assert made.values == ("portal.url", "portal.user")
    assert made.answer == (
        "The invoice {{ tasks.download.result.file }} has been mailed to billing@kunde.example."
    )
    assert made.spec.answer == made.answer
    assert [risk.split(":")[0] for risk in made.risks] == ["send"]


def test_the_mail_is_written_in_the_language_of_the_request() -> None:
    assert arguments(plan(ENGLISH), "send")["subject"] == "Invoice"
    assert arguments(plan(GERMAN), "send")["subject"] == "Rechnung"
    assert arguments(plan(GERMAN, context={"locale": "en-GB"}), "send")["subject"] == "Invoice"


def test_sign_in_may_be_repeated_and_mail_is_verified() -> None:
    effects = {task.id: task.effect for task in plan(ENGLISH).spec.tasks}
    assert effects["sign_in"] is EffectClass.IDEMPOTENT
    assert effects["send"] is EffectClass.VERIFIABLE


def test_every_shipped_example_becomes_a_plan() -> None:
    for definition in ROUTER.definitions:
        for example in definition.examples:
            assert plan(example).spec.intent == definition.name


def test_tasks_are_left_out_by_the_arguments_given() -> None:
    one = plan("Export the issue list of project apollo as PDF")
    assert arguments(one, "list")["url"] == "http://127.0.0.1:8900/projects/apollo/issues"
    assert "list_all" not in {task.id for task in one.spec.tasks}
    every = plan("Export the issue list as PDF")
    assert arguments(every, "list_all")["url"] == "http://127.0.0.1:8900/issues"
    place = {task.id: index for index, task in enumerate(every.spec.tasks)}
    listed = every.spec.tasks[place["listed"]]
    assert place["list_all"] in listed.needs


def test_what_a_person_wrote_cannot_leave_its_place_in_an_address() -> None:
    made = plan(intent="pdf.export", arguments={"project": "../admin?x=1#"})
    assert arguments(made, "list")["url"].endswith("/projects/..%2Fadmin%3Fx%3D1%23/issues")


def test_braces_in_a_text_stay_text() -> None:
    made = plan(
        'Send a mail to a@x.example saying "see {{ tasks.send.result.x }} and {{ values.portal.url }}"'
    )
    assert arguments(made, "send")["text"] == "see {{ tasks.send.result.x }} and {{ values.portal.url }}"
    assert made.spec.tasks[0].references == ()  # nothing is filled at dispatch


def test_a_named_intent_with_arguments_needs_no_text() -> None:
    made = plan(
        intent="portal.invoice.mail", arguments={"customer": "ACME", "to": "a@x.example, b@y.example"}
    )
    assert arguments(made, "send")["to"] == ["a@x.example", "b@y.example"]


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"customer": "ACME"}, "arguments.to", r"^arguments\.to: To which mail address\?$"),
        ({"customer": "ACME", "to": "nobody"}, "arguments.to", "list of mail addresses"),
        ({"customer": "ACME", "to": []}, "arguments.to", r"To which mail address\?"),
        ({"customer": 4, "to": "a@x.example"}, "arguments.customer", "not a text"),
        ({"custmer": "ACME", "to": "a@x.example"}, "arguments.custmer", "no argument"),
    ],
)
def test_wrong_arguments_are_named(given: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        plan(intent="portal.invoice.mail", arguments=given)
    assert caught.value.field == field
    assert caught.value.remedy


def test_the_plan_knows_in_which_language_failures_are_told() -> None:
    graph = {"tasks": [{"action": "flow.noop"}]}
    assert plan("Schreibe an anna@kunde.example: Bis morgen.").spec.locale == "de"
    assert plan("Write to anna@kunde.example: See you.").spec.locale == ""
    assert plan(task_graph=graph, context={"locale": "de_AT"}).spec.locale == "de"
    assert plan(task_graph=graph).spec.locale == ""


@pytest.mark.parametrize(
    ("text", "message", "again"),
    [
        (
            "Hole die neueste Rechnung von Müller und schicke sie an a@x.example",
            "Das Portal kennt mehrere Kunden dieses Namens.",
            'Hole die neueste Rechnung von "{name}" aus dem Portal und schicke sie an a@x.example',
        ),
        (
            "Get the latest invoice of Müller and mail it to a@x.example",
            "The portal knows several customers of that name.",
            'Get the latest invoice of "{name}" from the portal and mail it to a@x.example',
        ),
    ],
)
def test_an_ambiguous_customer_is_answered_with_the_sentence_to_write(
    text: str, message: str, again: str
) -> None:
    sign = arguments(plan(text), "found")["unless"][1]
    assert sign["message"] == message
    assert sign["remedy"].endswith(f": {again}")
    said = plan(again.replace("{name}", "Müller & Söhne KG"))
    assert said.intent is not None
    assert said.intent.values()["customer"] == "Müller & Söhne KG"
    assert said.intent.values()["to"] == ["a@x.example"]


def test_a_reply_to_what_was_asked_fills_the_request() -> None:
    made = plan("Get ACME's latest invoice and mail it", replies={"to": "to bob@x.example, please"})
    assert arguments(made, "send")["to"] == ["bob@x.example"]
    with pytest.raises(UnknownIntent) as asked:
        plan("Schicke die letzte Rechnung von ACME", replies={"to": "an Bob"})
    assert asked.value.remedy is not None
    assert asked.value.remedy.startswith("„an Bob“ beantwortet das nicht. An welche Mailadresse?")
    with pytest.raises(BadInput, match="no argument 'too'") as wrong:
        plan("Schicke die letzte Rechnung von ACME", replies={"too": "bob@x.example"})
    assert (wrong.value.field, wrong.value.remedy) == ("replies.too", "Did you mean to?")


PAY = IntentDefinition.model_validate(
    {
        "name": "pay",
        "description": "Pays.",
        "patterns": [{"regex": "bezahle das(?: mit (?P<amount>[0-9.,]+) Euro)?|pay that"}],
        "examples": ["Bezahle das", "Pay that"],
        "arguments": {
            "amount": {"type": "number", "required": True, "question": {"de": "Was?", "en": "What?"}}
        },
        "tasks": [{"id": "pay", "action": "flow.noop", "arguments": {"value": "{{ arguments.amount }}"}}],
    }
)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("Bezahle das", "1.234,50"),
        ("Bezahle das", "1.234,50 Euro"),
        ("Pay that", "1,234.50"),
        ("Bezahle das mit 1.234,50 Euro", ""),
    ],
)
def test_an_amount_is_read_in_german_and_in_english(text: str, reply: str) -> None:
    request = PlanRequest(text=text, replies={"amount": reply} if reply else {})

    assert Planner(IntentRouter((PAY,))).plan_now(request).spec.tasks[0].arguments == {"value": 1234.5}


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("Bezahle das", "1.234 kann 1234 oder 1,234 heißen", "bitte 1234 oder 1,2340 schreiben"),
        ("Pay that", "1.234 can mean 1234 or 1.234", "write 1234, or 1.2340"),
    ],
)
def test_an_amount_that_could_be_two_is_asked_for_again(text: str, said: str, remedy: str) -> None:
    with pytest.raises(BadInput) as wrong:
        Planner(IntentRouter((PAY,))).plan_now(PlanRequest(text=text, replies={"amount": "1.234"}))
    assert (wrong.value.field, wrong.value.message, wrong.value.remedy) == ("replies.amount", said, remedy)


def test_unknown_intents_are_refused_with_a_question_in_the_language_of_the_request() -> None:
    with pytest.raises(UnknownIntent, match="wurde nicht verstanden: negated") as caught:
        plan("Bitte schicke die Rechnung von ACME nicht an billing@kunde.example.")
    assert caught.value.remedy is not None
    assert caught.value.remedy.startswith("Ich habe verstanden, was nicht geschehen soll")
    with pytest.raises(UnknownIntent) as missing:
        plan("Get ACME's latest invoice and mail it")
    assert missing.value.message == missing.value.remedy
    assert missing.value.remedy == "To which mail address? For example: billing@kunde.example"
    with pytest.raises(UnknownIntent, match="no intent") as named:
        plan(intent="portal.invoice.male")
    assert named.value.remedy == "Did you mean portal.invoice.mail?"


@pytest.mark.parametrize(("text", "error"), [("", BadInput), (" \n", BadInput), ("x" * 30_000, TooLarge)])
def test_no_text_and_too_much_text_are_refused(text: str, error: type[CPAError]) -> None:
    with pytest.raises(error) as caught:
        plan(text)
    assert caught.value.field == "text"
    assert caught.value.remedy


def test_a_missing_workspace_value_names_where_to_set_it() -> None:
    with pytest.raises(InvalidDocument, match=r"portal\.invoice\.mail needs the value portal\.url") as caught:
        Planner(ROUTER).plan_now(PlanRequest(text=ENGLISH))
    assert caught.value.remedy == "Set portal.url under `values:` in cpa.yaml, then restart `cpa serve`."


def test_an_action_nobody_offers_is_a_risk_and_waits() -> None:
    def offers(action: str, capability: str, tenant: str) -> bool:
        return tenant == "globex" or not action.startswith("mail.")

    planner = Planner(ROUTER, offers, VALUES)
    waits = "send: no agent offers mail.send yet; it waits for one"
    assert waits in planner.plan_now(PlanRequest(text=ENGLISH)).risks
    assert waits not in planner.plan_now(PlanRequest(text=ENGLISH, tenant="globex")).risks


def test_a_misspelt_action_is_a_risk_with_what_may_have_been_meant() -> None:
    fleet = AgentRegistry()
    fleet.register(remote("rechner", "x.rechner.add", tags=("büro",)))
    planner = Planner(ROUTER, fleet.offers, near=fleet.near)

    def risks(**task: str) -> tuple[str, ...]:
        graph = {"tasks": [{"id": "t", "effect": "idempotent", **task}]}
        return planner.plan_now(PlanRequest(task_graph=graph, tenant=TENANT)).risks

    waits = "yet; it waits for one"
    assert risks(action="x.rechner.ad") == (
        f"t: no agent offers x.rechner.ad {waits}. Did you mean x.rechner.add (of rechner)?",
    )
    assert risks(action="x.rechner.add", capability="buro") == (
        f"t: no agent offers x.rechner.add with 'buro' {waits}. Did you mean büro (of rechner)?",
    )
    assert risks(action="x.mond.phase") == (f"t: no agent offers x.mond.phase {waits}",)
    assert risks(action="x.rechner.add") == ()


def test_an_unconfirmed_requester_cannot_choose_recipients() -> None:
    with pytest.raises(CPAError) as caught:
        plan(ENGLISH, authenticated=False)
    assert "to" in str(caught.value)


@pytest.mark.parametrize(
    ("actions", "known_by"),
    [
        (["flow.noop", "flow.noop"], "flow.noop"),
        (["x.a.b", "flow.noop", "mail.search"], "x.a.b, flow.noop, mail.search"),
        (["x.a.b", "flow.noop", "x.a.b", "x.a.c", "x.a.d"], "x.a.b, flow.noop, x.a.c …"),
    ],
)
@pytest.mark.parametrize("text", ["", " "])
def test_a_plan_that_says_nothing_of_itself_is_known_by_its_first_actions(
    actions: list[str], known_by: str, text: str
) -> None:
    assert plan(text, task_graph=[{"action": action} for action in actions]).spec.description == known_by


def test_a_task_graph_is_checked_and_kept_as_it_is() -> None:
    made = plan(
        "two steps",
        task_graph={"a": {"action": "flow.noop"}, "b": {"action": "flow.noop", "depends_on": ["a"]}},
    )
    assert made.intent is None
    assert made.spec.description == "two steps"
    assert made.batches == (("a",), ("b",))
    with pytest.raises(InvalidDocument, match="wait for each other"):
        plan(
            task_graph=[
                {"action": "flow.noop", "depends_on": [1]},
                {"action": "flow.noop", "depends_on": [0]},
            ]
        )


def test_a_plan_can_be_stored() -> None:
    assert msgspec.json.encode(plan(GERMAN).spec)


def test_the_setting_for_parallel_tasks_reaches_the_job() -> None:
    planner = Planner(IntentRouter(()), max_parallel=3)
    plan = planner.plan_now(PlanRequest(task_graph=[{"action": "flow.noop"}]))

    assert plan.spec.max_parallel == 3


class Held(IntentRouter):
    """Reads a text only when it is let, and counts how many it reads at a time."""

    def __init__(self) -> None:
        super().__init__(ROUTER.definitions, ROUTER.vocabulary)
        self.let = threading.Event()
        self.reading = self.most = 0

    def route(self, text: str, context: RouteContext | None = None) -> Intent:
        self.reading += 1
        self.most = max(self.most, self.reading)
        assert self.let.wait(20)
        self.reading -= 1
        return super().route(text, context)


async def test_while_long_texts_are_read_the_loop_goes_on() -> None:
    router = Held()
    planner = Planner(router, values=VALUES)
    long = ENGLISH + " Thanks!" * 300
    plans = [asyncio.create_task(planner.plan(PlanRequest(text=long))) for _ in range(8)]
    try:
        async with asyncio.timeout(10):
            while not router.reading:
                await asyncio.sleep(0)
        assert not any(made.done() for made in plans)
    finally:
        router.let.set()

    assert {made.spec.intent for made in await asyncio.gather(*plans)} == {"portal.invoice.mail"}
    assert router.most == 1


async def test_a_long_text_that_is_not_understood_is_answered_as_a_short_one() -> None:
    for text in ("Bitte " * 3_000, "x" * 20_001):
        with pytest.raises(CPAError) as now:
            PLANNER.plan_now(PlanRequest(text=text))
        with pytest.raises(CPAError) as aside:
            await PLANNER.plan(PlanRequest(text=text))
        told = type(now.value), str(now.value), now.value.field, now.value.remedy
        assert (type(aside.value), str(aside.value), aside.value.field, aside.value.remedy) == told
