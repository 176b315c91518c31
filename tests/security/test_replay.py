"""Messages that were here before, and messages that were altered: none counts, whatever happened in between."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import httpx2
from starlette.types import Message
from tests.security.house import House, Member, house

MESSAGES, ROUNDS = 50, 50
"""Signed messages, and how often each is replayed and altered, before and after the restart."""


Wire = tuple[list[tuple[bytes, bytes]], bytes]
"""Headers and body, as they came over the wire."""


def wire(request: httpx2.Request) -> Wire:
    return [(name.lower(), value) for name, value in request.headers.raw], request.content


def altered(message: Wire, at: int, part: bytes) -> Wire:
    """The message with one bit of a part changed."""
    headers, body = message
    if part == b"body":
        return headers, flipped(body, at)
    return [(name, flipped(value, at) if name == part else value) for name, value in headers], body


def flipped(data: bytes, at: int) -> bytes:
    place = at % len(data)
    return data[:place] + bytes([data[place] ^ 1 << at % 8]) + data[place + 1 :]


async def status(home: House, message: Wire) -> int:
    """Hand the message to the app as a server would, and nothing of a client around it: there are many."""
    headers, body = message
    told: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(answer: Message) -> None:
        if answer["type"] == "http.response.start":
            told.append(answer["status"])

    path = "/lam/message"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": headers}
    more = {"query_string": b"", "scheme": "http", "server": ("cpa.example", 80), "http_version": "1.1"}
    await home.app(scope | more, receive, send)
    return told[0]


async def attack(home: House, sent: list[Wire], chance: random.Random) -> Counter[int]:
    """Every message replayed and altered many times; how that was answered."""
    answers: Counter[int] = Counter()
    parts = (b"body", b"content-digest", b"signature-input", b"signature", b"content-type")
    for message in sent:
        for _ in range(ROUNDS):
            answers[await status(home, message)] += 1
            answers[await status(home, altered(message, chance.randrange(10**6), chance.choice(parts)))] += 1
    return answers


def again(request: httpx2.Request) -> httpx2.Request:
    return httpx2.Request(request.method, request.url, content=request.content, headers=request.headers)


async def jobs(home: House) -> int:
    return (await home.scheduler.engine.list("default")).total


async def test_ten_thousand_replays_and_alterations_are_refused_also_after_a_restart(tmp_path: Path) -> None:
    chance = random.Random(20)
    sent: list[Wire] = []
    async with house(tmp_path) as home:
        agent = await Member.enrol(home, "rechner-größe", signs=True, orders=True)
        for number in range(MESSAGES):
            task = {"action": "flow.noop", "arguments": {"value": f"Größe {number}"}}
            request = agent.request("/lam/message", agent.message("request", task))
            sent.append(wire(request))
            answer = await home.client.send(request)
            assert (answer.status_code, answer.json()["effect"]) == (200, "job_created")
        before = await attack(home, sent, chance)
        assert await jobs(home) == MESSAGES

    async with house(tmp_path) as home:
        after = await attack(home, sent, chance)
        assert await jobs(home) == MESSAGES

        # The agent itself is not locked out: what it signs anew is taken.
        document = json.loads(sent[0][1])
        fresh = agent.request("/lam/message", document)
        assert (await home.client.send(fresh)).json()["effect"] == "duplicate"
        assert (await home.client.send(again(fresh))).status_code == 409

    told = before + after
    assert told.total() == MESSAGES * ROUNDS * 4 == 10_000
    # A changed media type is refused before the signature is looked at.
    assert set(told) <= {401, 409, 415}
    assert told[409] == 5_000


async def test_every_request_of_a_signing_agent_is_signed_and_counts_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        agent = await Member.enrol(home, "rechner", signs=True, orders=True)
        beat = {"status": "online", "instance": "i1"}
        known = {"name": "rechner", "type": "DATA", "capabilities": ["x.rechner.add"], "instance": "i1"}
        assert agent.signer is not None
        known["public_key"] = agent.signer.public
        calls = [
            # First: it speaks by another key than it enrolled with, and only the registered one beats for it.
            agent.request("/agents/register", known),
            agent.request(f"/agents/{agent.id}/heartbeat", beat),
            agent.request(f"/agents/{agent.id}", None, method="DELETE"),
        ]
        for call in calls:
            bare = {name: value for name, value in call.headers.items() if not name.startswith("signature")}
            plain = httpx2.Request(call.method, call.url, content=call.content, headers=bare)
            assert (await home.client.send(plain)).status_code == 401
            assert (await home.client.send(call)).status_code == 200
            # After the last one the agent is gone, and its key with it.
            gone = call.method == "DELETE"
            assert (await home.client.send(again(call))).status_code == (401 if gone else 409)


async def test_a_stolen_api_key_cannot_bring_a_signing_key_of_its_own(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        agent = await Member.enrol(home, "rechner", signs=True, orders=True)
        thief = await Member.enrol(home, "dieb", signs=True)
        assert agent.signer is not None
        assert thief.signer is not None
        thief.key = agent.key
        said = {"name": "rechner", "type": "DATA", "capabilities": ["x.rechner.add"], "instance": "i2"}
        for public in ("", thief.signer.public, agent.signer.public):
            for key_id in (thief.signer.key, agent.signer.key):
                thief.signer.key = key_id
                call = thief.request("/agents/register", said | {"public_key": public})
                assert (await home.client.send(call)).status_code == 401
        assert (await agent.say(home, "request", {"action": "flow.noop"})).status_code == 200

        # With its own signature it may change its key.
        call = agent.request("/agents/register", said | {"public_key": thief.signer.public})
        assert (await home.client.send(call)).status_code == 200
        assert (await agent.say(home, "request", {"action": "flow.noop"})).status_code == 401


async def test_where_all_must_sign_nobody_registers_without_a_key(tmp_path: Path) -> None:
    async with house(tmp_path, signed_messages="required") as home:
        said = {"name": "stumm", "type": "DATA", "capabilities": ["x.rechner.add"]}
        answer = await home.client.post(
            "/agents/register", json=said, headers={"X-Enrolment-Token": await home.token()}
        )
        assert (answer.status_code, answer.json()["field"]) == (422, "public_key")
        agent = await Member.enrol(home, "rechner", signs=True, orders=True)
        assert (await agent.say(home, "request", {"action": "flow.noop"})).status_code == 200
        agent.signer = None
        assert (await agent.say(home, "request", {"action": "flow.noop"})).status_code == 401
