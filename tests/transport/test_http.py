"""Messages posted to agents that listen: to addresses that were judged, once more when that may help, and nowhere
else."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import trustme
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.contracts.delivery import DeliveryContract, Line, Told, listed, message, until
from tests.servers.resetting import resetting

from cpa.core.lam_protocol import BaseMessage, parse
from cpa.demo.serving import serve
from cpa.ports.addresses import not_resolved
from cpa.ports.agents import AgentRecord
from cpa.security.addresses import AddressGuard
from cpa.transport.http import AT_ONCE, FIRST_PAUSE, HttpDelivery
from cpa.transport.postbox import ANSWER, Postbox


@dataclass(eq=False)
class Endpoint:
    """An agent that listens. `status` is answered; `told` is what came: method, path, headers, body."""

    status: int = 202
    task: str = "task-1"
    url: str = ""
    told: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[Request], Response] | None = None
    answer_to: Callable[[bytes], Response] | None = None
    before: Callable[[Request], Awaitable[None]] | None = None
    hanging: asyncio.Event | None = None
    tries: int = 0
    callers: set[tuple[str, int]] = field(default_factory=set)
    """Far ends of the connections that were made."""

    @property
    def got(self) -> list[BaseMessage]:
        """What it took."""
        return [parse(body) for method, _, _, body in self.told if method == "POST"]

    async def take(self, request: Request) -> Response:
        self.tries += 1
        if request.client is not None:
            self.callers.add(tuple(request.client))
        body = await request.body()
        if self.before is not None:
            await self.before(request)
        if self.answer_to is not None:
            return self.answer_to(body)
        if self.hanging is not None:
            await self.hanging.wait()
        if self.answer is None and self.status >= 500:
            return Response(status_code=self.status)
        self.told.append((request.method, request.url.path, dict(request.headers), body))
        if self.answer is not None:
            return self.answer(request)
        return JSONResponse({"task_id": self.task, "estimated_duration": 1.0}, status_code=self.status)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Endpoint]:
        app = Starlette(routes=[Route("/{path:path}", self.take, methods=["GET", "POST", "DELETE"])])
        async with serve(app) as self.url:
            yield self


def delivery_to(guard: AddressGuard | None = None) -> HttpDelivery:
    return HttpDelivery(guard or AddressGuard(("127.0.0.1",)), lambda tenant, agent: f"{tenant}/{agent}")


class Endpoints:
    """Agents that listen; one that is away answers 503."""

    def __init__(self, delivery: HttpDelivery, spare: list[Endpoint]) -> None:
        self.delivery, self.told = delivery, Told()
        delivery.connect(self.told)
        self._spare, self._ends = spare, dict[str, Endpoint]()

    def agent(self, name: str) -> AgentRecord:
        end = self._ends[name] = self._spare.pop()
        end.status = 503
        return listed(name, end.url)

    async def appear(self, agent: AgentRecord) -> None:
        self._ends[agent.name].status = 202

    async def vanish(self, agent: AgentRecord) -> None:
        self._ends[agent.name].status = 503

    def got(self, agent: AgentRecord) -> list[BaseMessage]:
        return self._ends[agent.name].got


class TestHttp(DeliveryContract):
    @pytest.fixture
    async def line(self) -> AsyncIterator[Line]:
        async with AsyncExitStack() as stack:
            spare = [await stack.enter_async_context(Endpoint().listening()) for _ in range(2)]
            delivery = await stack.enter_async_context(delivery_to())
            yield Endpoints(delivery, spare)


@asynccontextmanager
async def posting(
    endpoint: Endpoint | None = None, guard: AddressGuard | None = None
) -> AsyncIterator[tuple[HttpDelivery, Told, Endpoint]]:
    async with (endpoint or Endpoint()).listening() as end, delivery_to(guard) as delivery:
        told = Told()
        delivery.connect(told)
        yield delivery, told, end


async def test_a_message_is_posted_with_the_agent_s_own_key() -> None:
    async with posting() as (delivery, told, end):
        delivery.deliver(listed("eins", f"{end.url}/agent/"), message(1))
        await until(lambda: told.of("taken"), "the delivery")
        method, path, headers, body = end.told[0]
        assert (method, path) == ("POST", "/agent/tasks")
        assert headers["x-cpa-key"] == "acme/ag_eins"
        assert headers["content-type"] == "application/json"
        assert parse(body) == message(1)
        assert told.troubles == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
async def test_a_no_is_a_no(status: int) -> None:
    async with posting(Endpoint(status)) as (delivery, told, end):
        agent = listed("eins", end.url)
        delivery.deliver(agent, message(1))
        await until(lambda: told.refusals, "the refusal")
        id, error, certain = told.refusals[0]
        assert (id, error.status, certain) == (message(1).id, status, True)
        end.status = 202
        delivery.deliver(agent, message(2))
        await until(lambda: told.of("taken") == [message(2).id], "the next one")
        assert len(end.told) == 2


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_what_may_pass_is_tried_again_and_then_no_no_is_certain(status: int) -> None:
    end = Endpoint(answer=lambda _: Response(status_code=status))
    async with posting(end) as (delivery, told, _):
        delivery.deliver(listed("eins", end.url), message(1))
        await until(lambda: len(end.told) >= 2, "a second try")
        assert ("eins", f"it answers {status}") in told.troubles
        end.answer = lambda _: Response(status_code=409)
        await until(lambda: told.refusals, "the refusal")
        assert told.refusals[0][2] is False
        assert told.troubles[-1] == ("eins", "")


async def test_nothing_is_followed_anywhere() -> None:
    async with Endpoint().listening() as other:
        end = Endpoint(answer=lambda _: RedirectResponse(f"{other.url}/tasks", status_code=307))
        async with posting(end) as (delivery, told, _):
            delivery.deliver(listed("eins", end.url), message(1))
            await until(lambda: told.refusals, "the refusal")
            assert "elsewhere" in str(told.refusals[0][1])
        assert other.told == []


async def test_an_address_that_may_not_be_reached_is_not_reached() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with posting(guard=AddressGuard(resolver=resolver)) as (delivery, told, end):
        port = end.url.rpartition(":")[2]
        delivery.deliver(listed("eins", f"http://agent.example:{port}"), message(1))
        await until(lambda: told.refusals, "the refusal")
        assert (told.refusals[0][1].status, told.refusals[0][2]) == (403, True)
        assert end.told == []
        assert told.of("left") == []


async def test_a_name_is_resolved_once_and_connected_to_what_was_judged() -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["192.0.2.1"]

    async with posting(guard=AddressGuard(("agent.example",), resolver=resolver)) as (delivery, told, end):
        port = end.url.rpartition(":")[2]
        for number in range(3):
            delivery.deliver(listed("eins", f"http://agent.example:{port}"), message(number))
        await until(lambda: len(told.of("taken")) == 3, "the delivery")
        assert asked == ["agent.example"]
        assert {headers["host"] for _, _, headers, _ in end.told} == {f"agent.example:{port}"}


async def test_an_endpoint_whose_name_nobody_answers_for_is_tried_again_and_told_of() -> None:
    silent = True

    async def resolver(host: str, port: int) -> Sequence[str]:
        if silent:
            raise not_resolved(host)
        return ["127.0.0.1"]

    async with posting(guard=AddressGuard(("agent.example",), resolver=resolver)) as (delivery, told, end):
        port = end.url.rpartition(":")[2]
        delivery.deliver(listed("eins", f"http://agent.example:{port}"), message(1))
        await until(lambda: told.troubles, "the trouble")
        assert told.troubles == [("eins", "the name agent.example was not resolved in time")]
        silent = False
        await until(lambda: told.of("taken"), "the delivery")
        assert told.refusals == []


async def test_an_endpoint_nobody_listens_at_is_tried_again_and_told_of() -> None:
    async with Endpoint().listening() as gone:
        dead = gone.url
    async with posting() as (delivery, told, end):
        delivery.deliver(listed("eins", dead), message(1))
        await until(lambda: told.troubles, "the trouble")
        assert "cannot be reached" in told.troubles[0][1]
        assert told.refusals == []
        delivery.deliver(listed("eins", end.url), message(2))
        await until(lambda: len(told.of("taken")) == 2, "the delivery to where it is now")
        assert end.got == [message(1), message(2)]
        assert told.troubles[-1] == ("eins", "")


async def test_an_agent_that_hangs_holds_up_nobody_and_is_left_at_the_end() -> None:
    hanging = Endpoint(hanging=asyncio.Event())
    assert hanging.hanging is not None
    async with hanging.listening():
        async with posting() as (delivery, told, end):
            delivery.deliver(listed("eins", hanging.url), message(1))
            await until(lambda: told.of("left"), "the way out")
            delivery.deliver(listed("zwei", end.url), message(1))
            await until(lambda: told.of("taken", "zwei"), "the other's delivery")
            assert told.of("taken", "eins") == []
        hanging.hanging.set()


async def test_conversations_go_side_by_side_and_each_in_its_order() -> None:
    open_now: list[UUID] = []
    most: list[int] = []
    let = asyncio.Event()

    async def hold(request: Request) -> None:
        id = parse(await request.body()).id
        open_now.append(id)
        most.append(len(open_now))
        await let.wait()
        open_now.remove(id)

    end = Endpoint(before=hold)
    async with posting(end) as (delivery, told, _):
        agent = listed("eins", end.url)
        for conversation in range(2 * AT_ONCE):
            for number in range(2):
                delivery.deliver(agent, message(number, f"c{conversation}"))
        await until(lambda: len(open_now) == AT_ONCE, "as many at once as may be")
        assert set(open_now) <= {message(0, f"c{n}").id for n in range(2 * AT_ONCE)}
        let.set()
        await until(lambda: len(told.of("taken")) == 4 * AT_ONCE, "the delivery")
        assert max(most) == AT_ONCE
        for conversation in range(2 * AT_ONCE):
            mine = [message(number, f"c{conversation}") for number in range(2)]
            assert [each for each in end.got if each in mine] == mine


async def test_connections_are_used_again() -> None:
    async with posting() as (delivery, told, end):
        agent = listed("eins", end.url)
        sent: list[UUID] = []
        for batch in range(5):
            for each in (message(number, f"{batch}/{number}") for number in range(AT_ONCE)):
                delivery.deliver(agent, each)
                sent.append(each.id)
            await until(lambda: len(told.of("taken")) == len(sent), "the delivery")
        assert len(end.callers) <= AT_ONCE


async def test_an_agent_in_trouble_is_tried_with_one_message_at_a_time() -> None:
    end = Endpoint(status=503)
    async with posting(end) as (delivery, told, _):
        agent = listed("eins", end.url)
        delivery.deliver(agent, message(1, "first"))
        await until(lambda: told.troubles, "the first answer")
        for number in range(3 * AT_ONCE):
            delivery.deliver(agent, message(number, f"c{number}"))
        before = end.tries
        await until(lambda: end.tries >= before + 3, "three more tries")
        assert len(set(told.of("left"))) <= end.tries < AT_ONCE
        end.status = 202
        await until(lambda: len(told.of("taken")) == 3 * AT_ONCE + 1, "the delivery")


async def test_one_that_is_answered_badly_holds_up_no_other_conversation() -> None:
    bad = message(1, "bad").id

    def answer(body: bytes) -> Response:
        return Response(status_code=500 if parse(body).id == bad else 202)

    end = Endpoint()
    end.answer_to = answer
    async with posting(end) as (delivery, told, _):
        agent = listed("eins", end.url)
        delivery.deliver(agent, message(1, "bad"))
        delivery.deliver(agent, message(2, "bad"))
        for number in range(5):
            delivery.deliver(agent, message(number, f"good{number}"))
        await until(lambda: len(told.of("taken")) == 5, "the delivery of the others")
        assert {message(1, "bad").id, message(2, "bad").id}.isdisjoint(told.of("taken"))
        delivery.drop(agent, "bad")
        delivery.deliver(agent, message(3, "bad"))
        await until(lambda: message(3, "bad").id in told.of("taken"), "what came after it")


@asynccontextmanager
async def at_work_without_cancel() -> AsyncIterator[tuple[HttpDelivery, Told, Endpoint, AgentRecord]]:
    """An agent that took a task, and takes no message any more."""
    async with posting() as (delivery, told, end):
        agent = listed("eins", end.url)
        end.task = "aufgabe/7"
        delivery.deliver(agent, message(1))
        await until(lambda: told.of("taken"), "the delivery")
        end.answer = lambda request: Response(status_code=404 if request.method == "POST" else 204)
        yield delivery, told, end, agent


async def test_a_cancel_that_is_no_message_there_is_a_delete() -> None:
    async with at_work_without_cancel() as (delivery, told, end, agent):
        delivery.deliver(agent, message(2, type="cancel"))
        await until(lambda: len(told.of("taken")) == 2, "the cancel")
        assert (end.told[-1][0], end.told[-1][1]) == ("DELETE", "/tasks/aufgabe/7")
        assert end.told[-1][2]["x-cpa-key"] == "acme/ag_eins"


async def test_a_certificate_of_a_stranger_is_looked_at_however_https_is_written() -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=stranger)
    port = server.sockets[0].getsockname()[1]
    async with server, delivery_to() as delivery:
        told = Told()
        delivery.connect(told)
        delivery.deliver(listed("eins", f"HTTPS://127.0.0.1:{port}"), message(1))
        delivery.forget(listed("zwei", f"Https://127.0.0.1:{port}"), [message(2, type="cancel")])
        await until(lambda: told.troubles, "trouble")
        await asyncio.sleep(0.2)
    assert "CERTIFICATE_VERIFY_FAILED" in told.troubles[0][1]
    assert not any(heard)


async def test_what_keeps_this_process_from_connecting_is_told_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cpa.transport.http.LONGEST_PAUSE", 0.05)
    broken = [OSError(24, "Too many open files")] * 4

    def opening(*given: Any, **more: Any) -> Postbox:
        if broken:
            raise broken.pop()
        return Postbox(*given, **more)

    guard = AddressGuard(("127.0.0.1",))
    async with Endpoint().listening() as end, HttpDelivery(guard, lambda *_: "k", open=opening) as delivery:
        told = Told()
        delivery.connect(told)
        delivery.forget(listed("zwei", end.url), [message(2, type="cancel")])
        delivery.deliver(listed("eins", end.url), message(1))
        await until(lambda: told.of("taken"), "the delivery, in the end")
        assert "Too many open files" in told.troubles[0][1]
        assert told.troubles[-1][1] == ""
        assert [each.id for each in end.got] == [message(1).id]


async def test_of_three_hundred_last_words_no_more_wait_in_the_library_than_have_a_connection() -> None:
    """It gives them up after some seconds there."""
    now, most, sent = 0, 0, 0

    class Slow(Postbox):
        async def send(self, *_: Any) -> tuple[int, Any]:
            nonlocal now, most, sent
            now, sent = now + 1, sent + 1
            most = max(most, now)
            await asyncio.sleep(0.005)
            now -= 1
            return 202, None

    async with HttpDelivery(AddressGuard(()), lambda *_: "k", open=Slow) as delivery:
        last = [message(number, f"c{number}", type="cancel") for number in range(300)]
        delivery.forget(listed("eins", "http://agent.example"), last)
        await until(lambda: sent == 300, "the last words")
    assert most == AT_ONCE


async def test_an_agent_that_is_out_is_told_to_stop_once_and_nothing_that_waited_for_it() -> None:
    async with posting() as (delivery, told, end):
        agent = listed("eins", end.url)
        end.status = 503
        delivery.deliver(agent, message(1))
        await until(lambda: told.troubles, "a try in vain")
        end.status = 202
        delivery.forget(agent, [message(2, type="cancel"), message(3, "other", type="cancel")])
        await until(lambda: len(end.told) == 2, "the last words")
        await asyncio.sleep(3 * FIRST_PAUSE)
        assert {each.id for each in end.got} == {message(2).id, message(3, "other").id}
        assert len(end.told) == 2
        assert {headers["x-cpa-key"] for _, _, headers, _ in end.told} == {"acme/ag_eins"}
        assert told.of("taken") == told.of("refused") == []


async def test_an_agent_that_is_out_and_knows_no_cancel_is_stopped_by_a_delete() -> None:
    async with at_work_without_cancel() as (delivery, _, end, agent):
        delivery.forget(agent, [message(2, type="cancel")])
        await until(lambda: len(end.told) == 3, "the last words")
        assert [each[:2] for each in end.told[1:]] == [("POST", "/tasks"), ("DELETE", "/tasks/aufgabe/7")]


async def test_last_words_to_one_that_does_not_answer_hold_up_no_end() -> None:
    end = Endpoint()
    end.hanging = asyncio.Event()
    async with end.listening():
        async with asyncio.timeout(ANSWER / 2), delivery_to() as delivery:
            delivery.connect(Told())
            delivery.forget(listed("eins", end.url), [message(1, type="cancel")])
            delivery.forget(listed("zwei", "http://127.0.0.1:9"), [message(2, type="cancel")])
            await asyncio.sleep(0.2)
        end.hanging.set()


async def test_what_an_agent_says_at_length_is_not_listened_to() -> None:
    long = json.dumps({"task_id": "t", "more": "x" * 200_000})
    end = Endpoint(answer=lambda _: Response(long, status_code=202))
    async with posting(end) as (delivery, told, _):
        delivery.deliver(listed("eins", end.url), message(1))
        await until(lambda: told.of("taken"), "the delivery")


async def test_a_refusal_tells_the_agent_s_own_words() -> None:
    problem: dict[str, Any] = {"status": 409, "code": "conflict", "detail": "alle Plätze sind belegt"}
    end = Endpoint(answer=lambda _: JSONResponse(problem, status_code=409))
    async with posting(end) as (delivery, told, _):
        delivery.deliver(listed("eins", end.url), message(1))
        await until(lambda: told.refusals, "the refusal")
        assert "alle Plätze sind belegt" in str(told.refusals[0][1])


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_end_that_hangs_up_at_once_stops_nobody(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries meet a socket that is gone before they looked at it, and say so in words of their own."""
    monkeypatch.setattr("cpa.transport.http.LONGEST_PAUSE", 0.01)

    async def busy() -> None:
        while True:
            time.sleep(0.005)  # so that connection and end of it are noticed together
            await asyncio.sleep(0)

    async def work(url: str) -> None:
        async with posting() as (delivery, told, _):
            other = asyncio.create_task(busy())
            delivery.deliver(listed("eins", url), message(1))
            await until(lambda: told.of("taken"), "the delivery")
            other.cancel()

    with resetting(20) as (url, count), asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work(url))
    assert count[0] > 20
