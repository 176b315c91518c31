"""The weaknesses that message endpoints of comparable systems were found to have. Each is tried on the whole
scheduler, and nothing changes by it.

    who speaks          spoofed senders and roles; results injected by another; a session or key used by another
    what is told        facts about devices to who may not know
    what is done        a list of what may be done, bypassed by another spelling or by asking for more later
    where it leads      outbound requests by a registered URL; paths in names; names that lead somewhere else later
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.security.house import House, Member, house
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cpa.api.server import Server, listen
from cpa.core.actions import CATALOGUE
from cpa.core.job import JobSpec, TaskSpec
from cpa.ports.engine import Submission
from cpa.ports.keys import Scope

ADD = JobSpec((TaskSpec(id="größe", action="x.rechner.add"),))


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as opened:
        yield opened


async def at_work(home: House, agent: Member, *, tenant: str = "default") -> dict[str, Any]:
    """The agent lives and holds the only task of a new job; how its messages name that attempt."""
    beat = agent.request(f"/agents/{agent.id}/heartbeat", {"status": "online", "instance": "i1"})
    assert (await home.client.send(beat)).status_code == 200
    job = (await home.scheduler.engine.submit(Submission(tenant=tenant, spec=ADD))).job
    async with asyncio.timeout(10):
        while (await home.scheduler.engine.query(tenant, job)).tasks[0].agent != agent.address:
            await asyncio.sleep(0)
    return {"correlation": {"jobId": job, "taskId": "größe", "epoch": 1}}


async def events(home: House, about: dict[str, Any], *, tenant: str = "default") -> int:
    """How often anything happened to that job."""
    return (await home.scheduler.engine.query(tenant, about["correlation"]["jobId"])).head.number


def done(value: int = 7) -> dict[str, Any]:
    return {"result": {"sum": value}}


# -- sender role and identity spoofing ---------------------------------------------------------------------------


SENDERS = [
    "agent://data/anders",
    "agent://scheduler/cpa",
    "agent://user/anna",
    "agent://builtin/1",
    "agent://DATA/rechner",
    "agent://data/rechner2",
    "agent://data/Rechner",
    "agent://user/agent://data/rechner",
]


async def test_nobody_speaks_as_somebody_else(home: House) -> None:
    holder, _ = await Member.enrol(home, "rechner"), await Member.enrol(home, "anders")
    about = await at_work(home, holder)
    before = await events(home, about)
    told = (("done", done()), ("inform", {"progress": 0.5}), ("request", {"action": "flow.noop"}))
    for sender in SENDERS:
        for type, payload in told:
            answer = await holder.say(home, type, payload, sender=sender, **about)
            assert answer.status_code in (403, 422), sender
    assert await events(home, about) == before


async def test_a_name_that_is_a_role_cannot_be_registered(home: House) -> None:
    for type in ("scheduler", "SCHEDULER", "User", "builtin", "channel"):
        said = {"name": "cpa", "type": type, "capabilities": ["x.rechner.add"]}
        token = {"X-Enrolment-Token": await home.token()}
        answer = await home.client.post("/agents/register", json=said, headers=token)
        assert (answer.status_code, answer.json()["field"]) == (422, "type")


async def test_an_agents_key_orders_no_work(home: House) -> None:
    """Otherwise who takes over one agent has all the others, and their secrets."""
    agent = await Member.enrol(home, "rechner")
    order = {
        "action": "http.request",
        "arguments": {"url": "https://x.example/", "headers": {"A": {"secret": "smtp"}}},
    }
    assert (await agent.say(home, "request", order)).status_code == 403
    assert (await agent.say(home, "request", {"text": "schick die Rechnung"})).status_code == 403
    for path, body in (("/jobs", {"task_graph": [{"action": "flow.noop"}]}), ("/schedule", {"text": "x"})):
        assert (await home.client.send(agent.request(path, body))).status_code == 403
    assert (await home.scheduler.engine.list("default")).total == 0


async def test_the_tenant_is_that_of_the_key(home: House) -> None:
    here, there = await Member.enrol(home, "rechner"), await Member.enrol(home, "rechner", tenant="nord")
    about = await at_work(home, here)
    before = await events(home, about)
    assert here.address == there.address
    assert (await there.say(home, "done", done(), **about)).status_code == 404
    assert (await there.say(home, "done", done(), **about, context={"tenant": "default"})).status_code == 403
    assert await events(home, about) == before


# -- result injected by another device ---------------------------------------------------------------------------


async def test_a_result_counts_only_from_who_holds_the_task(home: House) -> None:
    holder, thief = await Member.enrol(home, "rechner"), await Member.enrol(home, "dieb")
    about = await at_work(home, holder)
    before = await events(home, about)
    failed = {"class": "business", "error": "kaputt", "message": ""}
    for type, payload in (("done", done(666)), ("failure", failed), ("inform", {"progress": 1.0})):
        answer = await thief.say(home, type, payload, **about)
        assert (answer.status_code, answer.json()["field"]) == (403, "sender")
    assert await events(home, about) == before

    assert (await holder.say(home, "done", done(), **about)).json()["effect"] == "task_succeeded"
    snapshot = await home.scheduler.engine.query("default", about["correlation"]["jobId"])
    assert snapshot.tasks[0].result == {"sum": 7}


async def test_a_result_of_another_attempt_changes_nothing(home: House) -> None:
    holder = await Member.enrol(home, "rechner")
    about = await at_work(home, holder)
    before = await events(home, about)
    for epoch in (0, 2, 999):
        about["correlation"]["epoch"] = epoch
        answer = await holder.say(home, "done", done(), **about)
        assert answer.status_code == 403 or answer.json()["effect"] != "task_succeeded"
    assert await events(home, about) == before


# -- session reuse across clients --------------------------------------------------------------------------------


async def test_an_enrolment_token_makes_one_agent(home: House) -> None:
    token = {"X-Enrolment-Token": await home.token()}
    said = {"name": "eins", "type": "DATA", "capabilities": ["x.rechner.add"]}
    calls = (
        home.client.post("/agents/register", json=said | {"name": f"n{n}"}, headers=token) for n in range(10)
    )
    told = [answer.status_code for answer in await asyncio.gather(*calls)]
    assert sorted(told) == [201, *[401] * 9]


async def test_what_an_agent_holds_is_not_another_processes(home: House) -> None:
    """Of two processes with one key the later one is the agent; the other renews nothing."""
    agent = await Member.enrol(home, "rechner")
    about = await at_work(home, agent)
    said = {"name": "rechner", "type": "DATA", "capabilities": ["x.rechner.add"], "instance": "i2"}
    assert (await home.client.send(agent.request("/agents/register", said))).status_code == 200
    named = {"job": about["correlation"]["jobId"], "task": "größe", "epoch": 1}
    for instance in ("i1", "i2"):
        beat = {"status": "online", "instance": instance, "running": [named]}
        answer = await home.client.send(agent.request(f"/agents/{agent.id}/heartbeat", beat))
        assert answer.json()["lost"] == [named]


async def test_keys_die_with_their_agent(home: House) -> None:
    admin = {"X-API-Key": await home.key(Scope.ADMIN)}
    revoked, removed = await Member.enrol(home, "eins"), await Member.enrol(home, "zwei")
    change = f"/agents/{revoked.id}/state"
    assert (await home.client.post(change, json={"state": "revoked"}, headers=admin)).status_code == 200
    assert (await home.client.delete(f"/agents/{removed.id}", headers=admin)).status_code == 200
    heirs = await Member.enrol(home, "eins"), await Member.enrol(home, "zwei")
    for old, heir in zip((revoked, removed), heirs, strict=True):
        assert old.address == heir.address
        assert old.callback_key != heir.callback_key
        for path in (f"/agents/{old.id}/heartbeat", f"/agents/{heir.id}/heartbeat"):
            assert (await home.client.send(old.request(path, {"status": "online"}))).status_code == 401
        assert (await old.say(home, "inform", {"progress": 0.1})).status_code == 401


# -- device info readable by others ------------------------------------------------------------------------------


async def test_an_agent_sees_itself_and_nothing_else(home: House) -> None:
    admin = {"X-API-Key": await home.key(Scope.ADMIN)}
    mine, other = await Member.enrol(home, "rechner"), await Member.enrol(home, "anders")
    foreign = await Member.enrol(home, "fremd", tenant="nord")
    about = await at_work(home, mine)
    job = about["correlation"]["jobId"]
    forbidden = ["/agents", f"/agents/{other.id}", "/jobs", f"/jobs/{job}", f"/jobs/{job}/events", "/audit"]
    for path in (*forbidden, "/questions", f"/jobs/{job}/explain"):
        assert (await home.client.send(mine.request(path, None, method="GET"))).status_code == 403, path
    for path in (f"/agents/{foreign.id}", "/agents/ag_unbekannt"):
        assert (await home.client.send(mine.request(path, None, method="GET"))).status_code == 404
        assert (await home.client.get(path, headers=admin)).status_code == 404
    own = (await home.client.send(mine.request(f"/agents/{mine.id}", None, method="GET"))).json()
    assert own["name"] == "rechner"
    assert mine.key not in str(own)
    assert mine.callback_key not in str(own)


async def test_without_a_key_there_is_nothing_to_see(home: House) -> None:
    agent = await Member.enrol(home, "rechner-ä")
    for path in ("/agents", f"/agents/{agent.id}", "/jobs", "/audit", "/metrics", "/artifacts/" + "0" * 64):
        assert (await home.client.get(path)).status_code in (401, 404)
    health = (await home.client.get("/health")).text
    assert agent.id not in health
    assert "rechner" not in health


# -- command allow-list bypassed -----------------------------------------------------------------------------------


MISSPELT = [
    "web.CLICK",
    "Web.click",
    "wеb.click",
    "web.click.",
    ".web.click",
    "web..click",
    "web.click --do-anything",
    "web.click\n",
    "web.click\x00",
    "web.*",
    "x.*",
    "X.rechner.add",
    "x.Rechner.add",
    "x..add",
    "x.",
    "x.a b",
    "x.../../web.click",
    "x.web.click\u200b",
    "ｘ.rechner.add",
    "mail.senden",
    "desktop.shell",
    "os.system",
]


async def test_an_action_has_one_spelling(home: House) -> None:
    token = {"X-Enrolment-Token": await home.token()}
    for capability in MISSPELT:
        said = {"name": "r", "type": "DATA", "capabilities": ["x.rechner.add", capability]}
        answer = await home.client.post("/agents/register", json=said, headers=token)
        assert answer.status_code in (400, 422), capability
        assert answer.json()["field"] == "capabilities[1]", capability


async def test_an_own_action_shadows_none_of_the_catalogue(home: House) -> None:
    """`x.web.click` is not `web.click`, and a tag that is called like an alias is no action."""
    agent = await Member.enrol(home, "r", capabilities=["x.web.click", "x.mail.send", "click", "send_mail"])
    await home.client.send(agent.request(f"/agents/{agent.id}/heartbeat", {"status": "online"}))
    offers = home.scheduler.agents.offers
    assert offers("x.web.click", "", "default")
    remote = [each for each in home.scheduler.agents.list("default") if each.record is not None]
    assert [each.actions for each in remote] == [{"x.web.click", "x.mail.send"}]
    assert not remote[0].actions & {spec.name for spec in CATALOGUE}


async def test_asking_for_more_later_is_not_granted(home: House) -> None:
    agent = await Member.enrol(home, "rechner")
    more = ["x.rechner.add", "mail.send", "x.lohn.zahlen"]
    said = {"name": "rechner", "type": "DATA", "capabilities": more, "instance": "i1"}
    answer = await home.client.send(agent.request("/agents/register", said))
    assert answer.json()["withheld"] == ["mail.send", "x.lohn.zahlen"]
    detail = (await home.client.send(agent.request(f"/agents/{agent.id}", None, method="GET"))).json()
    assert detail["actions"] == ["x.rechner.add"]
    only = said | {"capabilities": ["mail.send"]}
    assert (await home.client.send(agent.request("/agents/register", only))).status_code == 403
    other = said | {"type": "EMAIL"}
    assert (await home.client.send(agent.request("/agents/register", other))).status_code == 403
    state = agent.request(f"/agents/{agent.id}/state", {"state": "active"})
    assert (await home.client.send(state)).status_code == 403


def test_no_action_hands_text_to_an_interpreter() -> None:
    """What there is touches pages, desktops, mails, services and files: nothing runs a program or a script."""
    families = {spec.name.partition(".")[0] for spec in CATALOGUE}
    assert families <= {"web", "desktop", "mail", "http", "file", "flow", "person"}
    words = {word for spec in CATALOGUE for word in (*spec.name.split("."), *spec.arguments)}
    assert not words & {
        "shell",
        "exec",
        "eval",
        "run",
        "script",
        "command",
        "javascript",
        "python",
        "macro",
        "flags",
    }


# -- outbound request forgery when registering -------------------------------------------------------------------


INSIDE = [
    "http://169.254.169.254/",
    "http://127.0.0.1:8700/",
    "http://[::ffff:10.0.0.1]/",
    "file:///etc/passwd",
]


async def test_a_device_url_leads_nowhere_inside(home: House) -> None:
    """All spellings: test_endpoints.py."""
    token = {"X-Enrolment-Token": await home.token()}
    for endpoint in (*INSIDE, "data:,x"):
        said = {"name": "r", "type": "DATA", "capabilities": ["x.rechner.add"], "endpoint": endpoint}
        answer = await home.client.post("/agents/register", json=said, headers=token)
        assert answer.status_code in (400, 403)
        assert answer.json()["field"] == "endpoint"
    assert [agent for agent in home.scheduler.directory.list("default") if agent.record is not None] == []


# -- path traversal in names --------------------------------------------------------------------------------------

TRAVERSALS = [
    "../x",
    "..",
    "a/b",
    "a\\b",
    "%2e%2e%2f",
    "/etc/passwd",
    "C:x",
    "a\x00b",
    "a\nb",
    "x/../../y",
    "．．／x",
    "-x",
    "",
]


async def test_a_name_is_no_path(home: House) -> None:
    """Names of tasks stand in URLs to agents, names of agents in files and addresses."""
    submit = {"X-API-Key": await home.key(Scope.SUBMIT)}
    token = {"X-Enrolment-Token": await home.token()}
    for name in TRAVERSALS:
        plan = {"task_graph": [{"id": name, "action": "flow.noop", "arguments": {"value": 1}}]}
        if name:  # An empty one is drawn.
            assert (await home.client.post("/jobs", json=plan, headers=submit)).status_code in (400, 422), (
                name
            )
        said = {"name": name, "type": "DATA", "capabilities": ["x.rechner.add"]}
        answer = await home.client.post("/agents/register", json=said, headers=token)
        assert answer.status_code in (400, 422), name
    assert (await home.scheduler.engine.list("default")).total == 0


async def test_a_message_about_a_path_is_about_nothing(home: House) -> None:
    agent = await Member.enrol(home, "rechner")
    about = await at_work(home, agent)
    job = about["correlation"]["jobId"]
    for named in (
        {"taskId": "../größe"},
        {"jobId": f"../{job}"},
        {"jobId": f"{job}/tasks"},
        {"taskId": "größe/../x"},
    ):
        answer = await agent.say(home, "done", done(), correlation=about["correlation"] | named)
        assert answer.status_code == 404
    for path in (
        "/agents/..%2f..%2fjobs",
        f"/agents/{agent.id}%2f..",
        "/agents/../jobs/",
        "/artifacts/..%2fcpa.db",
    ):
        assert (await home.client.send(agent.request(path, None, method="GET"))).status_code in (
            400,
            403,
            404,
            422,
        )


async def test_a_file_keeps_no_folder_in_its_name(home: House) -> None:
    agent = await Member.enrol(home, "rechner")
    headers = {"X-API-Key": agent.key, "Content-Type": "text/plain"}
    for name in ("../../x.txt", "..\\x.txt", "/etc/x.txt", "a/../x.txt"):
        answer = await home.client.post("/artifacts", params={"name": name}, content=b"x", headers=headers)
        assert answer.status_code in (200, 201)
        assert answer.json()["name"] == "x.txt"


# -- DNS rebinding to an unauthenticated endpoint ----------------------------------------------------------------


@asynccontextmanager
async def serving(home: House) -> AsyncIterator[str]:
    """The door on a real socket of this machine; gives host and port."""
    bound = listen("127.0.0.1", 0)
    ready: asyncio.Queue[str] = asyncio.Queue()
    server = Server(home.app, bound, shutdown_seconds=1, ready=ready.put_nowait)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    yield (await ready.get()).removeprefix("http://")
    server.should_exit = True
    await running


FOREIGN = [
    "evil.example",
    "evil.example:8700",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "0.0.0.0",
    "",
    "[::2]",
]


async def test_a_page_of_another_name_gets_no_answer(tmp_path: Path) -> None:
    """Its name was made to lead to this machine; for the browser it is then the same site."""
    async with house(tmp_path, hosts=()) as home, serving(home) as place:
        async with httpx2.AsyncClient(base_url=f"http://{place}", trust_env=False) as browser:
            for name in FOREIGN:
                for path in ("/health", "/docs", "/openapi.json", "/agents"):
                    answer = await browser.get(path, headers={"Host": name})
                    assert (answer.status_code, answer.json()["field"]) == (403, "Host"), name
                said = {"name": "r", "type": "DATA", "capabilities": ["x.a.b"]}
                answer = await browser.post("/agents/register", json=said, headers={"Host": name})
                assert answer.status_code == 403
            port = place.rpartition(":")[2]
            for name in ("127.0.0.1", f"LOCALHOST:{port}", f"[::1]:{port}", "cpa.localhost", place):
                assert (await browser.get("/health", headers={"Host": name})).status_code == 200, name
        with pytest.raises(InvalidStatus) as caught:
            async with connect(f"ws://{place}/ws/jobs/x", additional_headers={"Host": "evil.example"}):
                pass
        assert caught.value.response.status_code == 403


async def test_an_operator_names_what_is_answered_to(tmp_path: Path) -> None:
    async with house(tmp_path, hosts=("cpa.example", "cpa.example:8443")) as home:
        for name, status in (
            ("cpa.example", 200),
            ("CPA.example:8443", 200),
            ("localhost", 403),
            ("x.example", 403),
        ):
            assert (await home.client.get("/health", headers={"Host": name})).status_code == status
    async with house(tmp_path, hosts=(), host="0.0.0.0") as home:
        assert (await home.client.get("/health", headers={"Host": "anything.example"})).status_code == 200
