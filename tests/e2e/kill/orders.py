"""What the storm asks for, and what must have come of it in the world outside.

A light job orders, confirms by mail, orders again and mails the receipt; a short one only confirms. A browser job
signs in at the portal, looks a customer up, downloads the newest invoice and mails it. Orders may be repeated: the
web service knows their key. Mails may not: they are looked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.headerregistry import Address
from typing import Any

from tests.e2e.kill.world import SENDER

from cpa.core.ids import idempotency_key
from cpa.executors.mail.message import message_id

BOXES = 8
"""Mailboxes the mails go to."""
CUSTOMERS = ("ACME", "Brix & Sons", "Fröhlich Maschinenbau", "Größner Werkzeuge", "Ärztehaus am Südring")


@dataclass(frozen=True)
class Wish:
    """One request; `name` is its Idempotency-Key."""

    name: str
    body: dict[str, Any]
    orders: tuple[str, ...]
    """Serials, each to be ordered once."""
    mails: tuple[str, ...]
    """Tasks that send a mail, each once."""
    recipient: str

    def message_ids(self, job: str) -> dict[str, str]:
        """Task to the Message-ID of its mail."""
        sender = Address(addr_spec=SENDER)
        return {task: message_id(idempotency_key("default", job, task), sender) for task in self.mails}


def light(number: int, url: str) -> Wish:
    name = f"light-{number:04}"
    to = recipient(number)

    def order(what: str) -> dict[str, Any]:
        arguments = {"method": "POST", "url": url, "json": {"serial": f"{name}/{what}"}}
        return {"action": "http.request", "arguments": arguments, "effect": "idempotent"}

    def mail(what: str) -> dict[str, Any]:
        text = f"Grüße, Ihre Bestellnummer ist {{{{ tasks.{what}.result.json.number }}}}."
        arguments = {"to": to, "subject": f"Bestellung {name}: {what}", "text": text}
        return {"action": "mail.send", "arguments": arguments}

    graph = {
        "reserve": order("reserve"),
        "confirm": mail("reserve") | {"depends_on": ["reserve"]},
        "book": order("book") | {"depends_on": ["confirm"]},
        "receipt": mail("book") | {"depends_on": ["book"]},
    }
    return Wish(
        name,
        {"description": f"Bestellung {name}", "task_graph": graph},
        (f"{name}/reserve", f"{name}/book"),
        ("confirm", "receipt"),
        to,
    )


def short(number: int, url: str) -> Wish:
    """The first half of a light one."""
    whole = light(number, url)
    graph = {name: whole.body["task_graph"][name] for name in ("reserve", "confirm")}
    body = whole.body | {"task_graph": graph}
    return Wish(whole.name, body, whole.orders[:1], whole.mails[:1], whole.recipient)


def browser(number: int) -> Wish:
    arguments = {"customer": CUSTOMERS[number % len(CUSTOMERS)], "to": [recipient(number)]}
    name = f"browser-{number:04}"
    body = {"intent": "portal.invoice.mail", "arguments": arguments}
    return Wish(name, body, (), ("send",), recipient(number))


def recipient(number: int) -> str:
    return f"kunde{number % BOXES}@kunde.example"


def wishes(lights: int, browsers: int, url: str) -> list[Wish]:
    """All of them, the browser jobs spread evenly among the first half."""
    found = [light(number, url) for number in range(lights)]
    every = max(lights // (2 * browsers), 1) if browsers else 1
    for number in range(browsers):
        found.insert(number * (every + 1), browser(number))
    return found
