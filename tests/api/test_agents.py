"""Agents at the door: who may register, what is refused and why, and what people see and decide."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import httpx2
import pytest
from tests.api.conftest import Door, problem
from tests.api.fakes import SystemClock

from cpa.agents.signing import Signer, draw
from cpa.api.agents import Listed
from cpa.orchestrator.breakers import THRESHOLD, Circuit
from cpa.ports.agents import AgentState, AgentStatus
from cpa.ports.keys import Scope
from cpa.ports.transport import Attempt

ABOUT: dict[str, Any] = {
    "name": "rechner-größe",
    "type": "WEB",
    "capabilities": ["web.click", "x.calculator.add", "outlook"],
    "slots": 3,
    "metadata": {"hostname": "rechner-größe"},
    "instance": "i1",
}
ADDRESS = "agent://web/rechner-größe"


async def registered(api: httpx2.AsyncClient, **more: Any) -> dict[str, Any]:
    response = await api.post("/agents/register", json=ABOUT | more)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_what_a_signing_agent_says_counts_once_at_every_door(
    api: httpx2.AsyncClient, door: Door
) -> None:
    signer = Signer(draw(), SystemClock(), nonce=lambda: "n" * 24)
    told = await registered(api, public_key=signer.public)
    signer.key = told["key_id"]
    path = f"http://cpa.test/agents/{told['agent_id']}"
    beat = signer.headers("POST", f"{path}/heartbeat", b"{}")
    async with door.client(told["key"]) as agent:
        assert (await agent.post(f"{path}/heartbeat", content=b"{}", headers=beat)).status_code == 200
        for again in (
            await agent.post(f"{path}/heartbeat", content=b"{}", headers=beat),
            await agent.delete(path, headers=signer.headers("DELETE", path)),
        ):
            problem(again, 409, "replayed", "nonce")


# -- coming --------------------------------------------------------------------------------------------------


async def test_a_new_agent_gets_its_own_key_once_and_the_rhythm_of_its_beats(
    api: httpx2.AsyncClient, door: Door
) -> None:
    told = await registered(api)
    assert (told["address"], told["state"]) == (ADDRESS, "active")
    assert (told["heartbeat_interval"], told["lease"]) == (5.0, 15.0)
    assert len(told["callback_key"]) == 64
    assert door.trail.logged == [("default", "anna", "agent.registered", told["agent_id"])]

    async with door.client(told["key"]) as agent:
        assert (await agent.get(f"/agents/{told['agent_id']}")).json()["address"] == ADDRESS
        again = await agent.post("/agents/register", json=ABOUT)
        assert again.status_code == 200
        assert again.json() == told | {"key": None}
    assert [key.name for key in door.store.kept] == ["anna", ADDRESS]


async def test_a_key_made_for_the_address_registers_the_agent_too(door: Door) -> None:
    async with door.client(await door.key(Scope.AGENT, name=ADDRESS)) as agent:
        told = await registered(agent)
        assert told["key"] is None
        assert (await agent.get(f"/agents/{told['agent_id']}")).status_code == 200


async def test_a_name_belongs_to_one_agent_of_a_tenant(api: httpx2.AsyncClient, door: Door) -> None:
    told = await registered(api)
    again = await api.post("/agents/register", json=ABOUT)
    problem(again, 409, "conflict", "name")
    problem(await api.post("/agents/register", json=ABOUT | {"type": "EMAIL"}), 409, "conflict", "name")

    async with door.client(await door.key(Scope.ADMIN, tenant="globex")) as other:
        theirs = await registered(other)
        assert theirs["callback_key"] != told["callback_key"]
        assert (await other.get("/agents")).json()["total"] == 1


async def test_without_proof_nobody_registers(door: Door) -> None:
    async with door.client() as stranger:
        refused = await stranger.post("/agents/register", json=ABOUT)
        problem(refused, 401, "unauthorized", "X-Enrolment-Token")
        token = await stranger.post("/agents/register", json=ABOUT, headers={"X-Enrolment-Token": "x"})
        problem(token, 401, "unauthorized", "X-Enrolment-Token")


async def test_a_token_lets_agents_in_as_often_as_it_may(door: Door) -> None:
    token = await door.token(tenant="globex", uses=2)
    async with door.client(**{"X-Enrolment-Token": token}) as stranger:
        first = await registered(stranger)
        await registered(stranger, name="zwei")
        third = await stranger.post("/agents/register", json=ABOUT | {"name": "drei"})
        problem(third, 401, "unauthorized", "X-Enrolment-Token")
    async with door.client(first["key"]) as agent:
        assert (await agent.get(f"/agents/{first['agent_id']}")).status_code == 200
    assert ("globex", "enrolment", "agent.registered", first["agent_id"]) in door.trail.logged
    async with door.client(await door.key(Scope.ADMIN, tenant="globex")) as admin:
        assert (await admin.get("/agents")).json()["total"] == 2


async def test_a_token_for_one_agent_lets_in_no_other(door: Door) -> None:
    token = await door.token(name=ABOUT["name"])
    async with door.client(**{"X-Enrolment-Token": token}) as stranger:
        other = await stranger.post("/agents/register", json=ABOUT | {"name": "zwei"})
        problem(other, 401, "unauthorized", "X-Enrolment-Token")
        await registered(stranger)


async def test_what_is_wrong_with_a_registration_costs_no_use_of_a_token(door: Door) -> None:
    token = await door.token()
    async with door.client(**{"X-Enrolment-Token": token}) as stranger:
        wrong = await stranger.post("/agents/register", json=ABOUT | {"capabilities": ["web.klick"]})
        assert wrong.status_code == 422
        await registered(stranger)


async def test_a_name_that_is_taken_costs_no_use_of_a_token(door: Door, api: httpx2.AsyncClient) -> None:
    await registered(api)
    token = await door.token()
    async with door.client(**{"X-Enrolment-Token": token}) as stranger:
        problem(await stranger.post("/agents/register", json=ABOUT), 409, "conflict", "name")
        await registered(stranger, name="zwei")
        third = await stranger.post("/agents/register", json=ABOUT | {"name": "drei"})
        problem(third, 401, "unauthorized", "X-Enrolment-Token")


async def test_a_name_in_other_capitals_is_the_same_name(door: Door, api: httpx2.AsyncClient) -> None:
    await registered(api)
    other = ABOUT | {"name": ABOUT["name"].upper()}
    problem(await api.post("/agents/register", json=other), 409, "conflict", "name")
    key = await door.key(Scope.AGENT, name=f"agent://web/{other['name']}")
    async with door.client(key) as own:
        problem(await own.post("/agents/register", json=other), 409, "conflict", "name")


@pytest.mark.parametrize(
    "name",
    ["r\u0435\u0441-1", "\uff52echner", "\U0001d42bechner", "rechner-\u0661", "\u03b1rechner", "\ufb01rma"],
)
async def test_a_name_that_looks_like_another_is_refused(api: httpx2.AsyncClient, name: str) -> None:
    wrong = await api.post("/agents/register", json=ABOUT | {"name": name})
    assert "could be taken for another" in problem(wrong, 422, "invalid_document", "name")["detail"]


@pytest.mark.parametrize("name", ["größe-ß", "бухгалтерия-1", "経理ロボット2", "λογιστής", "browser-1@büro"])
async def test_a_name_is_written_in_any_one_alphabet(api: httpx2.AsyncClient, name: str) -> None:
    await registered(api, name=name)


async def test_a_key_of_another_kind_or_agent_registers_nobody(door: Door) -> None:
    for scopes, name in (((Scope.SUBMIT,), ADDRESS), ((Scope.READ,), "anna")):
        async with door.client(await door.key(*scopes, name=name)) as caller:
            problem(await caller.post("/agents/register", json=ABOUT), 403, "forbidden", "X-API-Key")
    async with door.client(await door.key(Scope.AGENT, name="agent://web/anders")) as other:
        problem(await other.post("/agents/register", json=ABOUT), 403, "forbidden", "name")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "../x"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a b"}, "name"),
        ({"type": "user"}, "type"),
        ({"type": "Scheduler"}, "type"),
        ({"type": "BUILTIN"}, "type"),
        ({"type": "we b"}, "type"),
        ({"capabilities": []}, "capabilities"),
        ({"capabilities": ["outlook"]}, "capabilities"),
        ({"capabilities": ["web.click", "web.klick"]}, "capabilities[1]"),
        ({"capabilities": ["web.click", ""]}, "capabilities[1]"),
        ({"capabilities": ["x.Calculator"]}, "capabilities[0]"),
        ({"capabilities": ["x."]}, "capabilities[0]"),
        ({"slots": 0}, "slots"),
        ({"slots": True}, "slots"),
        ({"slots": 1.5}, "slots"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"tenant": "globex"}, "tenant"),
        ({"state": "active"}, "state"),
    ],
)
async def test_what_is_wrong_with_a_registration_is_named(
    api: httpx2.AsyncClient, change: dict[str, Any], field: str
) -> None:
    response = await api.post("/agents/register", json=ABOUT | change)
    problem(response, 422, "invalid_document", field)
    assert (await api.get("/agents")).json()["total"] == 0


async def test_an_action_nobody_knows_is_named_with_what_it_may_have_been(api: httpx2.AsyncClient) -> None:
    response = await api.post("/agents/register", json=ABOUT | {"capabilities": ["web.klick"]})
    body = problem(response, 422, "invalid_document", "capabilities[0]")
    assert body["value"] == "web.klick"
    assert "web.click" in body["remedy"]
    assert "x.calculator.add" in body["remedy"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "ftp://rechner.example/",
        "http://anna:geheim@rechner.example/",
        "http://169.254.169.254/latest",
        "http://0x0a.1:99/",
        "http://[::1]/",
        "http://intern.local/",
        "nicht einmal eine Adresse",
    ],
)
async def test_an_endpoint_that_may_not_be_called_is_refused(api: httpx2.AsyncClient, endpoint: str) -> None:
    response = await api.post("/agents/register", json=ABOUT | {"endpoint": endpoint})
    assert response.status_code in (400, 403), response.text
    assert response.json()["field"] == "endpoint"
    assert response.json()["remedy"]
    assert (await api.get("/agents")).json()["total"] == 0


async def test_an_endpoint_where_nobody_listens_is_no_reason_to_refuse(api: httpx2.AsyncClient) -> None:
    told = await registered(api, endpoint="http://127.0.0.1:9/")
    assert (await api.get(f"/agents/{told['agent_id']}")).json()["endpoint"] == "http://127.0.0.1:9/"


# -- beating -------------------------------------------------------------------------------------------------


async def test_a_beat_names_what_lives_and_learns_what_does_not(api: httpx2.AsyncClient, door: Door) -> None:
    told = await registered(api)
    known = door.services.agents.list("default")[0]
    presence = door.orchestrator.presence
    presence.settled = True
    presence.begin(known, Attempt("default", "j1", 0, 2), "schritt-ä")
    running = [
        {"job": "j1", "task": "schritt-ä", "epoch": 2},
        {"job": "j1", "task": "schritt-ä", "epoch": 1},
    ]
    beat = {
        "status": "online",
        "current_load": 0.5,
        "available_slots": 1,
        "running": running,
        "readiness": {"session_locked": True, "dpi": 144, "applications": {"outlook": "16"}},
        "instance": "i1",
    }
    async with door.client(told["key"]) as agent:
        answered = await agent.post(f"/agents/{told['agent_id']}/heartbeat", json=beat)
        assert answered.json() == {
            "lost": running[1:],
            "state": "active",
            "heartbeat_interval": 5.0,
            "lease": 15.0,
        }

    detail = (await api.get(f"/agents/{told['agent_id']}")).json()
    [attempt] = detail["running"]
    assert 14 < attempt.pop("lease_remaining") <= 15
    assert attempt == running[0]
    assert (detail["status"], detail["load"], detail["slots"]) == ("online", 0.5, 3)
    assert detail["readiness"] == {"session_locked": True, "dpi": 144, "applications": {"outlook": "16"}}
    assert detail["last_seen"] < 5


async def test_a_process_whose_place_was_taken_loses_all_it_names(
    api: httpx2.AsyncClient, door: Door
) -> None:
    told = await registered(api)
    path = f"/agents/{told['agent_id']}/heartbeat"
    known = door.services.agents.list("default")[0]
    lost: list[tuple[list[str], str, bool]] = []
    door.orchestrator.presence.connect(
        lambda attempts, reason, ended: lost.append(([each.job for each in attempts], reason, ended))
    )
    door.orchestrator.presence.begin(known, Attempt("default", "j1", 0, 1), "a")
    async with door.client(told["key"]) as agent:
        again = await agent.post("/agents/register", json=ABOUT | {"instance": "i2"})
        assert again.status_code == 200
        assert lost == [(["j1"], "its agent was restarted", True)]
        old = {"instance": "i1", "running": [{"job": "j1", "task": "a", "epoch": 1}], "status": "busy"}
        assert (await agent.post(path, json=old)).json()["lost"] == old["running"]
        assert (await api.get(f"/agents/{told['agent_id']}")).json()["status"] == "online"
        assert (await agent.post(path, json={"instance": "i2"})).json()["lost"] == []


@pytest.mark.parametrize(
    ("beat", "field"),
    [
        ({"current_load": -0.1}, "current_load"),
        ({"available_slots": -1}, "available_slots"),
        ({"status": "asleep"}, "status"),
        ({"running": [{"job": "j", "task": "t"}]}, "running[0].epoch"),
        ({"running": [{"job": "j", "task": "t", "epoch": -1}]}, "running[0].epoch"),
        ({"readiness": {"session_locked": "yes"}}, "readiness.session_locked"),
        ({"hello": 1}, "hello"),
    ],
)
async def test_what_is_wrong_with_a_beat_is_named(
    api: httpx2.AsyncClient, beat: dict[str, Any], field: str
) -> None:
    told = await registered(api)
    response = await api.post(f"/agents/{told['agent_id']}/heartbeat", json=beat)
    problem(response, 422, "invalid_document", field)


async def test_agents_keep_to_themselves(api: httpx2.AsyncClient, door: Door) -> None:
    mine = await registered(api)
    theirs = await registered(api, name="anders")
    async with door.client(mine["key"]) as agent:
        path = f"/agents/{theirs['agent_id']}"
        for response in (
            await agent.get(path),
            await agent.delete(path),
            await agent.post(f"{path}/heartbeat", json={}),
        ):
            problem(response, 403, "forbidden", "agent_id")
        problem(await agent.get("/agents"), 403, "forbidden", "X-API-Key")
        own = await agent.post(f"/agents/{mine['agent_id']}/state", json={"state": "active"})
        assert own.status_code == 403
    async with door.client(await door.key(Scope.READ, Scope.AGENT, name=mine["address"])) as both:
        assert (await both.get(f"/agents/{theirs['agent_id']}")).status_code == 200
        problem(await both.delete(f"/agents/{theirs['agent_id']}"), 403, "forbidden", "agent_id")
    async with door.client(await door.key(Scope.READ)) as reader:
        assert (await reader.get(f"/agents/{mine['agent_id']}")).status_code == 200
        assert (await reader.post(f"/agents/{mine['agent_id']}/heartbeat", json={})).status_code == 403


async def test_another_tenant_sees_nothing(api: httpx2.AsyncClient, door: Door) -> None:
    told = await registered(api)
    path = f"/agents/{told['agent_id']}"
    async with door.client(await door.key(Scope.ADMIN, tenant="globex")) as other:
        assert (await other.get("/agents")).json()["agents"] == []
        for response in (
            await other.get(path),
            await other.delete(path),
            await other.post(f"{path}/heartbeat", json={}),
            await other.post(f"{path}/state", json={"state": "revoked"}),
        ):
            problem(response, 404, "not_found", "agent_id")
    assert (await api.get(path)).json()["state"] == "active"


# -- deciding ------------------------------------------------------------------------------------------------


async def test_lists_are_narrowed_and_paged(api: httpx2.AsyncClient) -> None:
    for number, capability in enumerate(("web.click", "mail.send", "web.click")):
        await registered(
            api, name=f"n{number}", type=("WEB", "EMAIL", "DATA")[number], capabilities=[capability, "büro"]
        )
    names = [agent["name"] for agent in (await api.get("/agents")).json()["agents"]]
    assert names == ["n0", "n1", "n2"]
    for query, found in (
        ({"type": "EMAIL"}, ["n1"]),
        ({"capability": "web.click"}, ["n0", "n2"]),
        ({"capability": "büro"}, ["n0", "n1", "n2"]),
        ({"status": "online"}, ["n0", "n1", "n2"]),
        ({"status": "offline"}, []),
        ({"capability": "web.click", "type": "DATA"}, ["n2"]),
    ):
        page = (await api.get("/agents", params=query)).json()
        assert [agent["name"] for agent in page["agents"]] == found
        assert page["total"] == len(found)
    page = (await api.get("/agents", params={"limit": 1, "offset": 1})).json()
    assert ([agent["name"] for agent in page["agents"]], page["total"]) == (["n1"], 3)
    problem(await api.get("/agents", params={"status": "gone"}), 422, "invalid_document", "query.status")


def test_agents_are_listed_by_all_that_they_say_and_all_that_is_decided_about_them() -> None:
    known = {each.value for kind in (AgentStatus, AgentState) for each in kind}
    assert {each.value for each in Listed} == known - {AgentState.ACTIVE}, "active is whoever is nothing else"


async def test_states_take_effect_at_once_and_are_written_down(api: httpx2.AsyncClient, door: Door) -> None:
    told = await registered(api)
    path = f"/agents/{told['agent_id']}"
    for state in ("draining", "quarantined", "active", "active"):
        changed = await api.post(f"{path}/state", json={"state": state})
        assert changed.json() == {"agent_id": told["agent_id"], "state": state}
        assert (await api.get(path)).json()["state"] == state
    actions = [action for _, _, action, _ in door.trail.logged]
    assert actions == ["agent.registered", "agent.draining", "agent.quarantined", "agent.active"]
    problem(await api.post(f"{path}/state", json={"state": "gone"}), 422, "invalid_document", "state")


async def test_quarantine_takes_the_work_away_and_survives_a_return(
    api: httpx2.AsyncClient, door: Door
) -> None:
    told = await registered(api)
    known = door.services.agents.list("default")[0]
    lost: list[str] = []
    door.orchestrator.presence.connect(lambda _, reason, __: lost.append(reason))
    door.orchestrator.presence.begin(known, Attempt("default", "j1", 0, 1), "a")
    await api.post(f"/agents/{told['agent_id']}/state", json={"state": "quarantined"})
    assert lost == ["its agent is in quarantine"]
    async with door.client(told["key"]) as agent:
        back = await agent.post("/agents/register", json=ABOUT | {"instance": "i2"})
        assert back.json()["state"] == "quarantined"


async def test_a_revoked_agent_is_shut_out_at_once_and_for_good(api: httpx2.AsyncClient, door: Door) -> None:
    told = await registered(api)
    path = f"/agents/{told['agent_id']}"
    spare = await door.key(Scope.AGENT, name=ADDRESS)
    async with door.client(told["key"]) as agent, door.client(spare) as second:
        assert (await agent.post(f"{path}/heartbeat", json={})).status_code == 200
        assert (await second.get(path)).status_code == 200
        assert (await api.post(f"{path}/state", json={"state": "revoked"})).status_code == 200
        assert (await agent.post(f"{path}/heartbeat", json={})).status_code == 401
        assert (await second.post("/agents/register", json=ABOUT)).status_code == 401
    assert (await api.get(path)).json()["state"] == "revoked"
    assert (await api.get("/agents")).json()["total"] == 0
    gone = (await api.get("/agents", params={"status": "revoked"})).json()
    assert [(each["id"], each["state"]) for each in gone["agents"]] == [(told["agent_id"], "revoked")]
    for other in ({"type": "X"}, {"capability": "mail.send"}):
        assert (await api.get("/agents", params={"status": "revoked"} | other)).json()["total"] == 0
    problem(await api.post(f"{path}/state", json={"state": "active"}), 409, "conflict", "state")
    assert (await registered(api))["agent_id"] != told["agent_id"]


async def test_an_agent_may_leave_and_come_again(api: httpx2.AsyncClient, door: Door) -> None:
    told = await registered(api)
    path = f"/agents/{told['agent_id']}"
    async with door.client(told["key"]) as agent:
        assert (await agent.delete(path)).json() == {"agent_id": told["agent_id"], "removed": True}
        assert (await agent.get(path)).status_code == 401
    problem(await api.get(path), 404, "not_found", "agent_id")
    problem(await api.delete(path), 404, "not_found", "agent_id")
    assert (await registered(api))["key"] != told["key"]


async def test_people_see_what_an_agent_offers_and_may_not_do(api: httpx2.AsyncClient, door: Door) -> None:
    told = await registered(api)
    path = f"/agents/{told['agent_id']}"
    assert (await api.get(path)).json()["withheld"] == []
    async with door.client(told["key"]) as agent:
        more = ABOUT | {"capabilities": [*ABOUT["capabilities"], "x.buero.neu"]}
        assert (await agent.post("/agents/register", json=more)).json()["withheld"] == ["x.buero.neu"]
    assert (await api.get(path)).json()["withheld"] == ["x.buero.neu"]
    [listed] = (await api.get("/agents")).json()["agents"]
    assert listed["withheld"] == ["x.buero.neu"]


async def test_people_see_what_went_wrong_with_an_agent(api: httpx2.AsyncClient, door: Door) -> None:
    told = await registered(api)
    known = door.services.agents.list("default")[0]
    for _ in range(THRESHOLD):
        door.orchestrator.assignments.breakers.failed(known.key, "default", "web.click", {})
        known.ended("web.click", door.services.clock.now_ms(), well=False)
    detail = (await api.get(f"/agents/{told['agent_id']}")).json()
    circuit = detail["breakers"]["web"]
    assert (circuit["state"], circuit["failures"]) == ("open", THRESHOLD)
    assert 0 < circuit["retry_in"] <= 2
    assert 0.3 < detail["weights"]["web.click"] < 0.35


async def test_a_list_looks_through_nothing_that_ever_failed(api: httpx2.AsyncClient, door: Door) -> None:
    class Failed(OrderedDict[tuple[str, ...], Circuit]):
        looks = 0

        def items(self) -> Any:
            self.looks += 1
            return super().items()

    told = await registered(api)
    failed = door.orchestrator.assignments.breakers.circuits = Failed()
    listed = (await api.get("/agents")).json()["agents"]
    assert (listed[-1]["id"], failed.looks) == (told["agent_id"], 0)
    assert (await api.get(f"/agents/{told['agent_id']}")).json()["breakers"] == {}
    assert failed.looks
