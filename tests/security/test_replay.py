"""Messages that were here before, and messages that were altered: none counts, whatever happened in between."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import httpx2
from tests.security.house import House, Member, house

MESSAGES, ROUNDS = 50, 50
"""Signed messages, and how often each is replayed and altered, before and after the restart."""


def again(request: httpx2.Request, *, at: int = -1, part: str = "") -> httpx2.Request:
    """The same request, or with one bit of a part changed."""
    headers, body = dict(request.headers), bytearray(request.content)
    if part == "body":
        body[at % len(body)] ^= 1 << at % 8
    elif part:
        value = bytearray(headers[part].encode())
        value[at % len(value)] ^= 1 << at % 7  # stays ASCII, which is what a header can be
        headers[part] = value.decode()
    return httpx2.Request(request.method, request.url, content=bytes(body), headers=headers)


async def attack(home: House, sent: list[httpx2.Request], chance: random.Random) -> Counter[int]:
    """Every message replayed and altered many times; how that was answered."""
    answers: Counter[int] = Counter()
    parts = ("body", "content-digest", "signature-input", "signature", "content-type")
    for request in sent:
        for _ in range(ROUNDS):
            answers[(await home.client.send(again(request))).status_code] += 1
            altered = again(request, at=chance.randrange(10**6), part=chance.choice(parts))
            answers[(await home.client.send(altered)).status_code] += 1
    return answers


async def jobs(home: House) -> int:
    return (await home.scheduler.engine.list("default")).total


async def test_ten_thousand_replays_and_alterations_are_refused_also_after_a_restart(tmp_path: Path) -> None:
    chance = random.Random(20)
    sent: list[httpx2.Request] = []
    async with house(tmp_path) as home:
        agent = await Member.enrol(home, "rechner-größe", signs=True)
        for number in range(MESSAGES):
            task = {"action": "flow.noop", "arguments": {"value": f"Größe {number}"}}
            sent.append(agent.request("/lam/message", agent.message("request", task)))
            answer = await home.client.send(sent[-1])
            assert (answer.status_code, answer.json()["effect"]) == (200, "job_created")
        before = await attack(home, sent, chance)
        assert await jobs(home) == MESSAGES

    async with house(tmp_path) as home:
        after = await attack(home, sent, chance)
        assert await jobs(home) == MESSAGES

        # The agent itself is not locked out: what it signs anew is taken.
        document = json.loads(sent[0].content)
        fresh = agent.request("/lam/message", document)
        assert (await home.client.send(fresh)).json()["effect"] == "duplicate"
        assert (await home.client.send(again(fresh))).status_code == 409

    told = before + after
    assert told.total() == MESSAGES * ROUNDS * 4 == 10_000
    # A changed media type may fail before the signature is looked at.
    assert set(told) <= {401, 409, 415}
    assert told[409] == 5_000


async def test_every_request_of_a_signing_agent_is_signed_and_counts_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        agent = await Member.enrol(home, "rechner", signs=True)
        beat = {"status": "online", "instance": "i1"}
        known = {"name": "rechner", "type": "DATA", "capabilities": ["x.rechner.add"], "instance": "i1"}
        assert agent.signer is not None
        known["public_key"] = agent.signer.public
        calls = [
            agent.request(f"/agents/{agent.id}/heartbeat", beat),
            agent.request("/agents/register", known),
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
        agent = await Member.enrol(home, "rechner", signs=True)
        thief = await Member.enrol(home, "dieb", signs=True)
        assert agent.signer is not None
        assert thief.signer is not None
        thief.key = agent.key
        said = {"name": "rechner", "type": "DATA", "capabilities": ["x.rechner.add"], "instance": "i2"}
        for public in ("", thief.signer.public, agent.signer.public):
            for key_id in (thief.key_id, agent.key_id):
                thief.key_id = key_id
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
        agent = await Member.enrol(home, "rechner", signs=True)
        assert (await agent.say(home, "request", {"action": "flow.noop"})).status_code == 200
        agent.signer = None
        assert (await agent.say(home, "request", {"action": "flow.noop"})).status_code == 401
