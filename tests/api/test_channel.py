"""The channel of an agent over a real socket: who may open it, what goes over it, and what closes it."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import structlog
from tests.api.conftest import MAX_SAID, Door, Served
from tests.api.fakes import SystemClock
from tests.api.test_agents import ABOUT, registered
from tests.contracts.delivery import message, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cpa.agents.signing import Signer
from cpa.api.channel import AT_ONCE
from cpa.api.live import RECHECK
from cpa.core.documents import MAX_BYTES
from cpa.core.lam_protocol import BaseMessage
from cpa.core.signatures import encoded
from cpa.errors import Unavailable
from cpa.orchestrator.directory import Answer
from cpa.ports.agents import Acknowledgement, AgentRecord, Beat
from cpa.ports.keys import Caller, Scope

HELLO = {"hello": {"stream": "", "cursor": 0, "instance": "i1"}}


def dial(served: Served, agent: str, key: str, **headers: str) -> connect:
    given = {"X-API-Key": key} | headers
    return connect(
        f"{served.socket}/agents/{agent}/channel", additional_headers=given, proxy=None, max_size=2**22
    )


async def ask(socket: ClientConnection, *frames: dict[str, Any]) -> dict[str, Any]:
    """Send these; the next frame that comes."""
    for frame in frames:
        await socket.send(json.dumps(frame))
    async with asyncio.timeout(20):
        found: dict[str, Any] = json.loads(await socket.recv())
    return found


async def closed(socket: ClientConnection) -> tuple[int, dict[str, Any]]:
    """The close code, and the last frame before it."""
    last: dict[str, Any] = {}
    with suppress(ConnectionClosed):
        async with asyncio.timeout(20):
            async for frame in socket:
                last = json.loads(frame)
    return socket.close_code or 0, last


def said(sender: str, type: str = "inform", **more: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "ts": "2026-11-24T08:30:00Z",
        "type": type,
        "sender": sender,
        "to": ["agent://scheduler/cpa"],
        "payload": {"message": "größer"},
    } | more


def recorded(door: Door, told: dict[str, Any]) -> AgentRecord:
    agent = door.orchestrator._agents.get(told["address"], "default")
    assert agent is not None
    assert agent.record is not None
    return agent.record


async def test_messages_go_both_ways_and_are_acknowledged(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    told = await registered(api)
    record = recorded(door, told)
    door.services.channels.deliver(record, message(1))
    async with dial(served, told["agent_id"], told["key"]) as socket:
        hello = (await ask(socket, HELLO))["hello"]
        assert (hello["cursor"], len(hello["stream"])) == (0, 16)
        assert await ask(socket) == {"seq": 1, "message": message(1).to_dict()}
        assert door.receipts.of("left", record.name) == [message(1).id]
        await socket.send(json.dumps({"ack": 1}))
        await until(lambda: door.receipts.of("taken", record.name) == [message(1).id], "the acknowledgement")
        word = said(told["address"])
        assert await ask(socket, {"seq": 1, "message": word}) == {"ack": 1, "effect": "progress", "new": True}
        again = await ask(socket, {"seq": 2, "message": word})
        assert again == {"ack": 2, "effect": "duplicate", "new": False}
        door.messages.left_out = ("sha256:" + "0" * 64,)
        left = (await ask(socket, {"seq": 3, "message": word}))["left_out"]
        assert left == list(door.messages.left_out)
    assert [each.to_dict()["payload"] for each in door.messages.taken.values()] == [{"message": "größer"}]


async def test_who_comes_back_goes_on_where_it_was(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    told = await registered(api)
    record = recorded(door, told)
    for number in range(3):
        door.services.channels.deliver(record, message(number))
    async with dial(served, told["agent_id"], told["key"]) as socket:
        stream = (await ask(socket, HELLO))["hello"]["stream"]
        assert [(await ask(socket))["seq"] for _ in range(3)] == [1, 2, 3]
    hello = {"hello": {"stream": stream, "cursor": 2, "instance": "i1"}}
    async with dial(served, told["agent_id"], told["key"]) as socket:
        assert (await ask(socket, hello))["hello"]["stream"] == stream
        assert (await ask(socket))["seq"] == 3
    async with dial(served, told["agent_id"], told["key"]) as socket:
        assert (await ask(socket, HELLO))["hello"]["stream"] != stream
        assert await ask(socket) == {"seq": 1, "message": message(2).to_dict()}


async def test_a_beat_is_a_heartbeat(door: Door, api: httpx2.AsyncClient, served: Served) -> None:
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        door.orchestrator.recovered()
        running = [{"job": "j", "task": "t", "epoch": 1}]
        beat = {"status": "busy", "current_load": 0.5, "running": running, "instance": "i1"}
        assert await ask(socket, {"beat": beat}) == {
            "lost": running,
            "state": "active",
            "heartbeat_interval": 5.0,
            "lease": 15.0,
        }
    assert (await api.get(f"/agents/{told['agent_id']}")).json()["status"] == "busy"


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ({"type": "inform"}, "invalid_document"),
        ({"sender": "agent://web/anders"}, "forbidden"),
        ({"context": {"tenant": "globex"}}, "forbidden"),
        ({"payload": {"progress": 7.3}}, "invalid_document"),
        ({"payload": {"message": "a\0b"}}, "bad_input"),
        ({"payload": {"n": 2**70}}, "bad_input"),
    ],
)
async def test_a_message_that_is_refused_is_answered_and_the_channel_stays(
    door: Door, api: httpx2.AsyncClient, served: Served, word: dict[str, Any], code: str
) -> None:
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        whole = word if "type" in word else said(told["address"]) | word
        answer = await ask(socket, {"seq": 7, "message": whole})
        assert (answer["ack"], answer["problem"]["code"]) == (7, code)
        assert "effect" not in answer
        assert (await ask(socket, {"seq": 8, "message": said(told["address"])}))["effect"] == "progress"
    assert len(door.messages.taken) == 1


async def test_a_refusal_leaves_a_line_that_holds_nothing_of_what_was_said(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await registered(api)
    with structlog.testing.capture_logs() as logged:
        async with dial(served, told["agent_id"], told["key"]) as socket:
            await ask(socket, HELLO)
            word = said("agent://web/anderer", payload={"message": "geheim"})
            assert (await ask(socket, {"seq": 1, "message": word}))["problem"]["status"] == 403
            await socket.send('{"ack": "geheim"}')
            assert (await closed(socket))[0] == 4400
        with pytest.raises(InvalidStatus):
            async with dial(served, told["agent_id"], await door.key(Scope.READ)):
                pass
    lines = [each for each in logged if each["event"] in ("message_refused", "channel_refused")]
    assert [(each["event"], each["code"]) for each in lines] == [
        ("message_refused", "forbidden"),
        ("channel_refused", "bad_input"),
        ("channel_refused", "forbidden"),
    ]
    assert {(each["agent"], each["log_level"], bool(each["reason"])) for each in lines} == {
        (told["agent_id"], "info", True)
    }
    assert "geheim" not in str(logged)


async def test_an_agent_says_so_much_a_day_and_no_more(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    told = await registered(api)
    long = {"message": "x" * (MAX_SAID // 4)}
    word = said(told["address"], payload=long)
    async with dial(served, told["agent_id"], told["key"]) as socket, door.client(told["key"]) as agent:
        await ask(socket, HELLO)
        for number in (1, 2):
            assert "effect" in await ask(socket, {"seq": number, "message": word})
        assert (await agent.post("/lam/message", json=word)).status_code == 200
        problem = (await ask(socket, {"seq": 3, "message": said(told["address"], payload=long)}))["problem"]
        assert (problem["code"], problem["actor"]) == ("quota_exceeded", "operator")
        assert "bytes of messages in 24 hours" in problem["detail"]
        assert (await agent.post("/lam/message", json=word)).status_code == 507
        short = [await ask(socket, {"seq": 4, "message": said(told["address"])}) for _ in range(257)]
        assert {"effect", "problem"} <= {name for each in short for name in each}, "each takes its place"
        assert "lost" in await ask(socket, {"beat": {"instance": "i1"}})


async def test_what_could_not_be_taken_is_not_counted(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = door.messages.handle

    async def full(message: BaseMessage, caller: Caller) -> Acknowledgement:
        raise Unavailable("the disk is full")

    told = await registered(api)
    word = {"seq": 1, "message": said(told["address"], payload={"message": "x" * (MAX_SAID // 2)})}
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        monkeypatch.setattr(door.messages, "handle", full)
        for _ in range(3):
            assert (await ask(socket, word))["problem"]["status"] == 503
        monkeypatch.setattr(door.messages, "handle", take)
        assert (await ask(socket, word))["effect"] == "progress"


async def test_only_the_agent_itself_opens_its_channel(
    door: Door, api: httpx2.AsyncClient, served: Served, lines: io.StringIO
) -> None:
    told = await registered(api)
    other = await registered(api, name="anders")
    foreign = await door.key(Scope.AGENT, tenant="globex", name=told["address"])
    admin = await door.key(Scope.ADMIN)
    older = await door.key(Scope.AGENT, name=told["address"])
    for key, agent, status in (
        (older, told["agent_id"], 403),
        ("", told["agent_id"], 401),
        ("falsch", told["agent_id"], 401),
        (admin, told["agent_id"], 403),
        (other["key"], told["agent_id"], 403),
        (foreign, told["agent_id"], 404),
        (told["key"], "ag_none", 404),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with dial(served, agent, key):
                pass
        assert refused.value.response.status_code == status, agent
    with pytest.raises(InvalidStatus) as refused:
        async with dial(
            served, told["agent_id"], told["key"], Origin="https://böse.example".encode().decode("latin-1")
        ):
            pass
    assert refused.value.response.status_code == 403
    # Whoever is refused cannot fill the log with errors.
    assert [line for line in lines.getvalue().splitlines() if '"level":"error"' in line] == []


async def test_an_agent_that_listens_needs_no_channel(api: httpx2.AsyncClient, served: Served) -> None:
    told = await registered(api, endpoint="http://127.0.0.1:9")
    with pytest.raises(InvalidStatus) as refused:
        async with dial(served, told["agent_id"], told["key"]):
            pass
    assert refused.value.response.status_code == 409


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("kein JSON", 4400),
        ("[]", 4400),
        ('{"hallo": 1}', 4400),
        ('{"ack": -1}', 4400),
        ('{"ack": "1"}', 4400),
        ('{"seq": 1}', 4400),
        ('{"beat": {"status": "fast"}}', 4422),
        ('{"beat": {"current_load": -1}}', 4422),
        ("{}", 4400),
        ('{"ack": 0, "beat": {"instance": "i1"}}', 4400),
        ('{"beat": {}, "seq": 1, "message": {}}', 4400),
        ('{"seq": 1, "beat": {}}', 4400),
        ('{"hello": {}, "ack": 0}', 4400),
        (b"{}", 4400),
        (json.dumps({"seq": 1, "message": {"text": "x" * MAX_BYTES}}), 4413),
        ('{"seq": 1, "message": ' + "[" * 100_000 + "]" * 100_000 + "}", 4400),
        ('{"beat": ' + '{"a":' * 60_000 + "1" + "}" * 60_000 + "}", 4400),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_what_is_no_frame_ends_the_channel_with_a_reason(
    api: httpx2.AsyncClient, served: Served, frame: str | bytes, code: int
) -> None:
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        await socket.send(frame)
        found, problem = await closed(socket)
        assert (found, problem["status"]) == (code, code - 4000)


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        ({"hello": {"instance": "anderer Prozess"}}, 4409),
        ({"hello": {"cursor": -1, "instance": "i1"}}, 4422),
        ({"beat": {}}, 4400),
        (HELLO | {"ack": 0}, 4400),
    ],
)
async def test_a_channel_begins_with_hello(
    api: httpx2.AsyncClient, served: Served, hello: dict[str, Any], code: int
) -> None:
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await socket.send(json.dumps(hello))
        assert (await closed(socket))[0] == code


async def test_who_is_not_to_be_heard_any_more_is_cut_off(api: httpx2.AsyncClient, served: Served) -> None:
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        state = {"state": "revoked"}
        assert (await api.post(f"/agents/{told['agent_id']}/state", json=state)).status_code == 200
        assert (await closed(socket))[1]["status"] == 401
    with pytest.raises(InvalidStatus) as refused:
        async with dial(served, told["agent_id"], told["key"]):
            pass
    assert refused.value.response.status_code == 401


async def test_in_quarantine_an_agent_learns_over_its_channel_what_to_stop(
    door: Door, api: httpx2.AsyncClient, served: Served
) -> None:
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        door.orchestrator.recovered()
        state = {"state": "quarantined"}
        assert (await api.post(f"/agents/{told['agent_id']}/state", json=state)).status_code == 200
        running = [{"job": "j", "task": "t", "epoch": 1}]
        beat = {"beat": {"status": "online", "instance": "i1", "running": running}}
        answer = await ask(socket, beat)
        assert (answer["state"], answer["lost"]) == ("quarantined", running)
        word = said(told["address"])
        assert (await ask(socket, {"seq": 1, "message": word}))["ack"] == 1
    async with dial(served, told["agent_id"], told["key"]) as socket:
        assert "hello" in await ask(socket, HELLO)


async def test_of_several_defects_none_is_silent(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    go_on = asyncio.Event()

    async def broken(message: BaseMessage, caller: Caller) -> Acknowledgement:
        begun.append(str(message.id))
        await go_on.wait()
        raise ZeroDivisionError(str(message.id))

    monkeypatch.setattr(door.messages, "handle", broken)
    told = await registered(api)
    with structlog.testing.capture_logs() as logged:
        async with dial(served, told["agent_id"], told["key"]) as socket:
            await ask(socket, HELLO)
            for number in (1, 2):
                await socket.send(json.dumps({"seq": number, "message": said(told["address"])}))
            await until(lambda: len(begun) == 2, "both")
            go_on.set()
            assert (await closed(socket))[1]["status"] == 500
        await until(lambda: [each["event"] for each in logged].count("unexpected_error") == 2, "both of them")


async def test_only_so_many_messages_of_one_agent_are_worked_on_at_once(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, take = list[str](), asyncio.Event(), door.messages.handle

    async def slowly(message: BaseMessage, caller: Caller) -> Acknowledgement:
        begun.append(str(message.id))
        await go_on.wait()
        return await take(message, caller)

    monkeypatch.setattr(door.messages, "handle", slowly)
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        for number in range(2 * AT_ONCE):
            await socket.send(json.dumps({"seq": number, "message": said(told["address"])}))
        await until(lambda: len(begun) >= AT_ONCE, "as many as may be")
        await asyncio.sleep(0.2)  # what is read beyond them would be begun by now
        assert len(begun) == AT_ONCE
        go_on.set()
        answers = [await ask(socket) for _ in range(2 * AT_ONCE)]
    assert sorted(each["ack"] for each in answers) == [*range(2 * AT_ONCE)]


async def test_what_was_begun_is_finished_when_the_channel_breaks(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, take = asyncio.Event(), asyncio.Event(), door.messages.handle

    async def slowly(message: BaseMessage, caller: Caller) -> Acknowledgement:
        begun.set()
        await go_on.wait()
        return await take(message, caller)

    monkeypatch.setattr(door.messages, "handle", slowly)
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        await socket.send(json.dumps({"seq": 1, "message": said(told["address"])}))
        await begun.wait()
    assert door.messages.taken == {}
    go_on.set()
    await until(lambda: len(door.messages.taken) == 1, "its end")


async def test_an_agent_that_leaves_in_the_middle_of_an_answer_is_no_defect(
    door: Door, api: httpx2.AsyncClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, take = asyncio.Event(), asyncio.Event(), door.services.agents.heartbeat

    async def slowly(caller: Caller, id: str, beat: Beat) -> Answer:
        begun.set()
        await go_on.wait()
        return await take(caller, id, beat)

    monkeypatch.setattr(door.services.agents, "heartbeat", slowly)
    told = await registered(api)
    with structlog.testing.capture_logs() as logs:
        async with dial(served, told["agent_id"], told["key"]) as socket:
            await ask(socket, HELLO)
            await socket.send(json.dumps({"beat": {"instance": "i1"}}))
            await begun.wait()
            socket.transport.abort()
        for _ in range(100):  # the server, in this very loop, notices it
            await asyncio.sleep(0)
        go_on.set()
        await until(lambda: ("rechner-größe", "its channel is closed") in door.receipts.troubles, "its end")
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_a_second_channel_takes_the_place_of_the_first(api: httpx2.AsyncClient, served: Served) -> None:
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as first:
        await ask(first, HELLO)
        async with dial(served, told["agent_id"], told["key"]) as second:
            await ask(second, HELLO)
            assert (await closed(first))[0] == 4409
            assert "lost" in await ask(second, {"beat": {"instance": "i1"}})


async def test_a_channel_is_closed_when_the_server_stops(api: httpx2.AsyncClient, served: Served) -> None:
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        stopping = asyncio.create_task(served.stop())
        assert (await closed(socket))[1]["code"] == "unavailable"
        await stopping


async def test_an_agent_with_a_signing_key_signs_every_frame(
    api: httpx2.AsyncClient, served: Served, door: Door
) -> None:
    signer = Signer(encoded(b"s" * 32), SystemClock())
    told = await registered(api, public_key=signer.public)
    signer.key = told["key_id"]
    path = f"/agents/{told['agent_id']}/channel"
    seal = signer.channel(path)
    opening = seal(json.dumps(HELLO))
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await socket.send(opening)
        assert "hello" in json.loads(await socket.recv())
        await socket.send(seal(json.dumps({"seq": 1, "message": said(told["address"])})))
        assert json.loads(await socket.recv())["effect"] == "progress"
        await socket.send(json.dumps({"seq": 2, "message": said(told["address"])}))
        assert (await closed(socket))[0] == 4401
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await socket.send(opening)
        assert (await closed(socket))[0] == 4409, "the same opening counts once"
    assert len(door.messages.taken) == 1


@pytest.mark.parametrize("speaks", [True, False], ids=["unsigned beat", "silent"])
async def test_who_registers_a_signing_key_opens_its_channel_anew(
    api: httpx2.AsyncClient, served: Served, door: Door, speaks: bool
) -> None:
    signer = Signer(encoded(b"s" * 32), SystemClock())
    told = await registered(api)
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await ask(socket, HELLO)
        await again(door, told, signer, public_key=signer.public)
        if speaks:
            await socket.send(json.dumps({"seq": 1, "message": said(told["address"])}))
        code, problem = await closed(socket)
        assert (code, problem["code"], problem["retryable"]) == (1013, "unavailable", True)
    assert door.messages.taken == {}
    signer.key = told["key_id"]
    seal = signer.channel(f"/agents/{told['agent_id']}/channel")
    async with dial(served, told["agent_id"], told["key"]) as socket:
        await socket.send(seal(json.dumps(HELLO)))
        assert "hello" in json.loads(await socket.recv())
        await again(door, told, signer, public_key=signer.public)
        await asyncio.sleep(3 * RECHECK)
        await socket.send(seal(json.dumps({"seq": 1, "message": said(told["address"])})))
        assert json.loads(await socket.recv())["effect"] == "progress", "the same key closes nothing"
        await again(door, told, signer, public_key=Signer(encoded(b"n" * 32), SystemClock()).public)
        await socket.send(seal(json.dumps({"seq": 2, "message": said(told["address"])})))
        assert (await closed(socket))[0] == 1013
    assert len(door.messages.taken) == 1


async def again(door: Door, told: dict[str, Any], signer: Signer, **more: Any) -> None:
    """The agent registers once more, with its own key; signed, where it does that already."""
    body = json.dumps(ABOUT | more).encode()
    headers = {"Content-Type": "application/json"}
    if signer.key:
        headers |= signer.headers("POST", "http://cpa.test/agents/register", body)
    async with door.client(told["key"]) as agent:
        response = await agent.post("/agents/register", content=body, headers=headers)
    assert response.status_code == 200, response.text
