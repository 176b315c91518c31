"""An agent that signs: its key is drawn once and kept, and everything it sends can be checked."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.agents.process import agent
from tests.agents.scheduler import FakeScheduler, scheduling
from tests.repository.shell import SteppedClock
from tests.security.house import House, house

from cpa.agents.agent import SystemClock
from cpa.agents.signing import Signer, draw
from cpa.api.server import Server, listen
from cpa.errors import BadInput, Unauthorized
from cpa.ports.agents import AgentStatus
from cpa.ports.keys import Caller, Scope
from cpa.ports.signatures import Frames, SigningKey
from cpa.security.signatures import MessageSignatures, SignedMessages, check_public_key

ME = Caller(tenant="default", key="key_1", name="agent://data/tester", scopes=frozenset((Scope.AGENT,)))


def test_a_key_is_drawn_anew_each_time() -> None:
    signers = [Signer(draw(), SteppedClock()) for _ in range(20)]
    assert len({signer.public for signer in signers}) == 20
    assert len(check_public_key(signers[0].public)) == 32


@pytest.mark.parametrize("kept", ["", "AAAA", "größe", draw() + "="])
def test_what_is_no_key_is_named(kept: str) -> None:
    with pytest.raises(BadInput) as caught:
        Signer(kept, SteppedClock())
    assert caught.value.field == "signing_key"


def test_every_signature_has_a_nonce_of_its_own() -> None:
    signer = Signer(draw(), SteppedClock())
    signer.key = "default/ag_1"
    inputs = {signer.headers("POST", "http://a.example/", b"")["Signature-Input"] for _ in range(100)}
    assert len(inputs) == 100


# -- over the channel ------------------------------------------------------------------------------------------


def opening(scheduler: FakeScheduler) -> Frames:
    """What a real scheduler does with the frames of a new connection."""
    known = SigningKey("ag_1", scheduler.registrations[-1]["public_key"])
    judge = MessageSignatures(SignedMessages.REQUIRED, lambda *_: known, SystemClock())
    return judge.frames(ME, "/agents/ag_1/channel")


async def test_every_frame_is_sealed_also_after_a_break(tmp_path: Path) -> None:
    async with scheduling() as scheduler:
        scheduler.frames = lambda: opening(scheduler)
        async with agent(scheduler, tmp_path, sign=True) as tester:
            await scheduler.push(scheduler.request("x.test.do"))
            await scheduler.until(lambda: "done" in scheduler.types(), "the answer")
            await scheduler.cut()
            await scheduler.until(lambda: scheduler.channels == 2, "the new channel")
            await scheduler.push(scheduler.request("x.test.do", task="t2"))
            await scheduler.until(lambda: "done" in scheduler.types(task="t2"), "the second answer")
            assert tester.hands.done == ["t", "t2"]


async def test_one_that_does_not_sign_seals_nothing(tmp_path: Path) -> None:
    async with scheduling() as scheduler, agent(scheduler, tmp_path):
        assert "public_key" not in scheduler.registrations[0]
        assert json.loads((tmp_path / "agent" / "agent.json").read_text()).keys() >= {"key", "key_id"}


# -- with the real scheduler -----------------------------------------------------------------------------------


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[tuple[House, FakeScheduler]]:
    """The scheduler on a real socket; and what the agents of these tests need to know of it."""
    async with house(folder, hosts=(), allow_private=("127.0.0.1",), **settings) as home:
        bound = listen("127.0.0.1", 0)
        ready: asyncio.Queue[str] = asyncio.Queue()
        server = Server(home.app, bound, shutdown_seconds=1, ready=ready.put_nowait)
        running = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield home, FakeScheduler(url=await ready.get())
        finally:
            server.should_exit = True
            await running
            bound.close()


def status(home: House) -> list[AgentStatus]:
    agents = home.scheduler.directory.list("default")
    return [each.status for each in agents if each.record is not None]


async def test_it_begins_to_sign_when_the_scheduler_wants_it(tmp_path: Path) -> None:
    async with serving(tmp_path, signed_messages="required") as (home, where):
        token = await home.token(name="tester")
        more = {"key": "", "token": token, "listens": True}
        async with agent(where, tmp_path, **more):  # type: ignore[arg-type]
            assert status(home) == [AgentStatus.ONLINE]
        kept = tmp_path / "agent" / "agent.json"
        first = json.loads(kept.read_text())
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        async with agent(where, tmp_path, **more):  # type: ignore[arg-type]
            assert status(home) == [AgentStatus.ONLINE]
        assert json.loads(kept.read_text()) == first

        # Whoever has the API key alone cannot come back as this agent.
        kept.write_text(json.dumps(first | {"signing_key": ""}))
        with pytest.raises(Unauthorized):
            async with agent(where, tmp_path, **more):  # type: ignore[arg-type]
                pass


async def test_a_known_agent_may_begin_to_sign(tmp_path: Path) -> None:
    async with serving(tmp_path) as (home, where):
        more = {"key": "", "token": await home.token(), "listens": True}
        async with agent(where, tmp_path, **more):  # type: ignore[arg-type]
            pass
        async with agent(where, tmp_path, sign=True, **more):  # type: ignore[arg-type]
            assert status(home) == [AgentStatus.ONLINE]
        # It goes on, also where nobody asks for it any more.
        async with agent(where, tmp_path, **more):  # type: ignore[arg-type]
            assert status(home) == [AgentStatus.ONLINE]
        [record] = [each.record for each in home.scheduler.directory.list("default") if each.record]
        assert record.public_key
