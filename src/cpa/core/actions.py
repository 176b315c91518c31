"""The actions that come with CPA: their arguments, and what a second try of each may do to the world.

An action is a canonical dotted name (`web.click`) with an `ActionSpec`. They are rows of one table, so a new
one needs no change here: `CATALOGUE.with_actions(ActionSpec(...))` gives a catalogue that knows it.

Effect classes lean to the safe side: a wrong `unsafe` costs a question to a person, a wrong `idempotent` an
order placed twice. A click may submit a form, so `web.click` is unsafe unless the task says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from cpa.core.catalogue import UI_TIMEOUT, ActionCatalogue, ActionSpec, ArgumentSpec, ArgumentType, Slot
from cpa.core.classes import EffectClass
from cpa.core.people import ASK

__all__ = [
    "ALIASES",
    "CATALOGUE",
    "UI_TIMEOUT",
    "ActionCatalogue",
    "ActionSpec",
    "ActionType",
    "ArgumentSpec",
    "ArgumentType",
    "Slot",
]


class ActionType(StrEnum):
    """The short action names; each is an alias of a canonical one (`ALIASES`)."""

    OPEN_APP = "open_app"
    CLICK = "click"
    TYPE = "type"
    WAIT_FOR = "wait_for"
    UIA = "uia"
    PLAYWRIGHT = "playwright"
    SEND_MAIL = "send_mail"


ALIASES: Mapping[str, str] = MappingProxyType(
    {
        ActionType.OPEN_APP.value: "desktop.open_app",
        ActionType.CLICK.value: "desktop.click",
        ActionType.TYPE.value: "desktop.type",
        ActionType.WAIT_FOR.value: "desktop.wait_for",
        ActionType.UIA.value: "desktop.uia",
        ActionType.PLAYWRIGHT.value: "web.{do}",
        ActionType.SEND_MAIL.value: "mail.send",
    }
)
"""Short name → canonical name; `{do}` is the task's own `do`."""


def _control(
    *, required: bool = False, type: ArgumentType = ArgumentType.TEXT, choices: tuple[str, ...] = ()
) -> ArgumentSpec:
    return ArgumentSpec(slot=Slot.CONTROL, required=required, type=type, choices=choices)


def _data(
    *, required: bool = False, type: ArgumentType = ArgumentType.TEXT, sensitive: bool = False
) -> ArgumentSpec:
    return ArgumentSpec(slot=Slot.DATA, required=required, type=type, sensitive=sensitive)


_TEXTS, _FLAG, _NUMBER = ArgumentType.TEXTS, ArgumentType.FLAG, ArgumentType.NUMBER
_IDEMPOTENT, _VERIFIABLE, _UNSAFE = EffectClass.IDEMPOTENT, EffectClass.VERIFIABLE, EffectClass.UNSAFE

_WEB = (
    ActionSpec(
        name="web.goto",
        summary="Open a page.",
        arguments={"url": _control(required=True)},
        results=("url", "title"),
        timeout=30.0,  # starts the browser when it is the job's first step
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.click",
        summary="Click an element of the page.",
        arguments={"selector": _control(required=True)},
        results=("url", "closed", "dialogs"),
        effect=_UNSAFE,
    ),
    ActionSpec(
        name="web.fill",
        summary="Set the text of a field, replacing what stood there.",
        arguments={"selector": _control(required=True), "text": _data(required=True)},
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.select",
        summary="Choose an option of a list.",
        arguments={"selector": _control(required=True), "value": _data(required=True, type=_TEXTS)},
        effect=_IDEMPOTENT,
        shorthands={"text": "value"},
    ),
    ActionSpec(
        name="web.wait_for",
        summary="Wait until an element, an address or a text is there (or in the given state).",
        arguments={
            "selector": _control(),
            "url": _control(),
            "text": _data(),
            "state": _control(),
            "unless": _control(type=ArgumentType.ANY),  # signs that it will not come: a business failure
        },
        one_of=(("selector", "url", "text"),),
        results=("url",),
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.extract",
        summary="Read text, an attribute, a list of texts, a table or a count from the page.",
        arguments={
            "selector": _control(),
            "what": _control(choices=("text", "attribute", "texts", "table", "count", "url", "title")),
            "attribute": _control(),
        },
        results=("value", "values", "count", "url"),
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.download",
        summary="Download the file behind a link or an address.",
        arguments={"selector": _control(), "url": _control(), "media_type": _control()},
        one_of=(("selector", "url"),),
        results=("file", "url", "dialogs"),
        timeout=120.0,
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="web.screenshot",
        summary="Take a picture of the page or of one element.",
        arguments={"selector": _control(), "full_page": _control(type=_FLAG)},
        results=("file",),
        effect=_IDEMPOTENT,
    ),
)

_MAIL = (
    ActionSpec(
        name="mail.send",
        summary="Send a mail.",
        arguments={
            "to": _control(required=True, type=_TEXTS),
            "cc": _control(type=_TEXTS),
            "bcc": _control(type=_TEXTS),
            "subject": _data(),
            "text": _data(),
            "attachments": _data(type=ArgumentType.FILES),
            "account": _control(),
        },
        results=("message_id", "accepted"),
        tainted_result=False,
        timeout=60.0,
        effect=_VERIFIABLE,
    ),
    ActionSpec(
        name="mail.search",
        summary="Find messages in a mailbox.",
        arguments={
            "folder": _control(),
            "subject": _data(),
            "sender": _data(),
            "to": _data(),
            "text": _data(),
            "since": _data(),
            "unseen": _control(type=_FLAG),
            "limit": _control(type=_NUMBER),
            "account": _control(),
        },
        results=("messages", "count"),
        timeout=60.0,
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="mail.read",
        summary="Read one message with its attachments.",
        arguments={"uid": _data(required=True), "folder": _control(), "account": _control()},
        results=(
            "subject",
            "sender",
            "to",
            "date",
            "text",
            "text_truncated",
            "text_file",
            "attachments",
            "message_id",
        ),
        timeout=60.0,
        effect=_IDEMPOTENT,
    ),
)

_FILE = (
    ActionSpec(
        name="file.read",
        summary="Read a file of an allowed folder.",
        arguments={"path": _control(required=True)},
        results=("file", "text"),
        timeout=30.0,
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="file.write",
        summary="Write a text or a file into an allowed folder, replacing what was there.",
        arguments={
            "path": _control(required=True),
            "text": _data(),
            "file": _data(type=ArgumentType.FILE),
        },
        one_of=(("text", "file"),),
        results=("path", "size"),
        tainted_result=False,
        timeout=30.0,
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="file.move",
        summary="Move a file from one allowed place to another.",
        arguments={"source": _control(required=True), "target": _control(required=True)},
        results=("path",),
        tainted_result=False,
        timeout=30.0,
        effect=_VERIFIABLE,
    ),
)

# Without a method it is GET; POST, PATCH and whatever else are unsafe.
_BY_METHOD = dict.fromkeys(("", "GET", "HEAD", "PUT", "DELETE", "OPTIONS"), _IDEMPOTENT)

_HTTP = ActionSpec(
    name="http.request",
    summary="Call a web service; without `method` it is GET.",
    arguments={
        "method": _control(),
        "url": _control(required=True),
        "headers": ArgumentSpec(slot=Slot.CONTROL, type=ArgumentType.OBJECT, sensitive=True),
        "json": _data(type=ArgumentType.ANY),
        "form": _data(type=ArgumentType.OBJECT),
        "schema": _control(type=ArgumentType.OBJECT),
        "save": _control(type=ArgumentType.ANY),
    },
    at_most_one=(("json", "form"),),
    results=("status", "headers", "json", "text", "file"),
    timeout=60.0,
    effect=_UNSAFE,
    effect_by=("method", MappingProxyType(_BY_METHOD)),
)

_DESKTOP = (
    ActionSpec(
        name="desktop.open_app",
        summary="Start a program, or bring it to the front.",
        arguments={"app": _control(required=True)},
        results=("window",),
        timeout=30.0,
        effect=_VERIFIABLE,
        shorthands={"selector": "app", "text": "app"},
    ),
    ActionSpec(
        name="desktop.click",
        summary="Click an element of a window.",
        arguments={"selector": _control(required=True)},
        effect=_UNSAFE,
    ),
    ActionSpec(
        name="desktop.type",
        summary="Type a text into an element of a window.",
        arguments={"selector": _control(), "text": _data(required=True)},
        effect=_UNSAFE,
    ),
    ActionSpec(
        name="desktop.wait_for",
        summary="Wait until an element or a text is on the screen.",
        arguments={"selector": _control(), "text": _data(), "state": _control()},
        one_of=(("selector", "text"),),
        effect=_IDEMPOTENT,
    ),
    ActionSpec(
        name="desktop.uia",
        summary="Use one UI Automation pattern of an element: invoke, set value, read value and so on.",
        arguments={"selector": _control(required=True), "do": _control(), "text": _data()},
        results=("value",),
        effect=_UNSAFE,
    ),
)

_FLOW = ActionSpec(
    name="flow.noop",
    summary="Do nothing and give the argument `value` back: a join, a constant, a test.",
    open=True,
    results=("value",),
    tainted_result=False,
    passes_taint=True,
    effect=_IDEMPOTENT,
)

_PERSON = ActionSpec(
    name=ASK,
    summary="Ask a person; what they answer, field by field, is the result. No agent is needed.",
    arguments={
        "question": _data(required=True),
        "form": _control(type=ArgumentType.OBJECT),  # without one it is a single text, `answer`
        "for": _control(),
    },
    tainted_result=False,
    timeout=7 * 24 * 3600.0,
    effect=_IDEMPOTENT,
)

CATALOGUE = ActionCatalogue((*_WEB, *_MAIL, *_FILE, _HTTP, *_DESKTOP, _FLOW, _PERSON), aliases=ALIASES)
"""The actions that come with CPA."""
