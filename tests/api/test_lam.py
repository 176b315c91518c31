"""LAM messages come in once, from whom they say they are, or are refused with field and remedy."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.api.conftest import Door
from tests.api.test_schedule import lam

from cpa.core.lam_protocol import TYPES
from cpa.ports.keys import Scope

ANNA = "agent://user/anna"


@pytest.fixture
async def anna(door: Door) -> Any:
    async with door.client(await door.key(Scope.SUBMIT, name=ANNA)) as client:
        yield client


async def test_a_message_is_acknowledged_once_as_new(door: Door, anna: httpx2.AsyncClient) -> None:
    message = lam()
    first, second = [(await anna.post("/lam/message", json=message)).json() for _ in range(2)]

    assert first == {
        "message_id": message["id"],
        "new": True,
        "effect": "progress",
        "job": "",
        "left_out": [],
    }
    assert (second["new"], second["effect"]) == (False, "duplicate")
    assert len(door.messages.taken) == 1


async def test_who_named_files_that_are_not_kept_is_told(door: Door, anna: httpx2.AsyncClient) -> None:
    door.messages.left_out = ("sha256:" + "0" * 64,)
    assert (await anna.post("/lam/message", json=lam())).json()["left_out"] == list(door.messages.left_out)


async def test_a_sender_that_is_not_the_caller_is_forbidden(anna: httpx2.AsyncClient) -> None:
    response = await anna.post("/lam/message", json=lam(sender="agent://user/bert"))

    assert (response.status_code, response.json()["field"]) == (403, "sender")


async def test_another_tenant_is_forbidden_before_anything_is_taken(
    door: Door, anna: httpx2.AsyncClient
) -> None:
    response = await anna.post("/lam/message", json=lam(context={"tenant": "nord"}))

    assert (response.status_code, response.json()["field"]) == (403, "context.tenant")
    assert not door.messages.taken


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"type": "dance"}, "type"),
        ({"id": "7"}, "id"),
        ({"ts": "gestern"}, "ts"),
        ({"sender": "anna"}, "sender"),
        ({"to": []}, "to"),
        ({"payload": 1}, "payload"),
        ({"color": "red"}, "color"),
    ],
)
async def test_a_malformed_message_names_its_field(
    changed: dict[str, Any], field: str, door: Door, anna: httpx2.AsyncClient
) -> None:
    response = await anna.post("/lam/message", json=lam(**changed))

    assert (response.status_code, response.json()["field"]) == (422, field)
    assert response.json()["remedy"]
    assert not door.messages.taken


async def test_an_unknown_type_is_told_the_known_ones(anna: httpx2.AsyncClient) -> None:
    remedy = (await anna.post("/lam/message", json=lam(type="dance"))).json()["remedy"]

    assert all(known in remedy for known in TYPES)
