"""What goes out to an agent: the arguments as they stand now, and nothing that people did not say yes to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tests.orchestrator.fleet import TENANT, builtin
from tests.repository.shell import SteppedClock

from cpa.core.approval import digest_of
from cpa.core.commands import RequestTask
from cpa.core.events import Event, TaskFailed
from cpa.core.job import Graph, JobHead, JobSpec, JobState, TaskRun, TaskSpec, TaskStatus
from cpa.core.references import literal
from cpa.orchestrator.agent_registry import AgentRegistry
from cpa.orchestrator.orchestrator import Orchestrator
from cpa.ports.executor import ActionRequest
from cpa.ports.transport import Attempt

SPEC = TaskSpec(
    id="send",
    action="x.a.b",
    arguments={"value": "{{ tasks.find.result.v }}"},
    needs=(0,),
    references=(0,),
    capability="de",
    tainted=("value",),
)
REQUEST = RequestTask(key="request:1:1", task=1, epoch=1, agent="agent://builtin/1", after=1)


class Wire:
    """A transport that only keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[ActionRequest] = []

    def send(self, agent: str, attempt: Attempt, request: ActionRequest, **how: bool) -> None:
        self.sent.append(request)

    def verify(self, agent: str, attempt: Attempt, request: ActionRequest) -> None:
        self.sent.append(request)

    def cancel(self, agent: str, attempt: Attempt, task: str) -> None: ...

    def over(self, agent: str, attempt: Attempt, *, answered: bool) -> None: ...

    def job_ended(self, tenant: str, job: str, run: int = 0, agents: Collection[str] = ()) -> None: ...


def performed(**run: Any) -> tuple[list[ActionRequest], list[Event]]:
    """What goes out, and what is reported, for a task of which this is known; it uses the result 7."""
    agents, wire, told = AgentRegistry(), Wire(), list[Event]()
    agents.register(builtin())
    orchestrator = Orchestrator(agents, wire, SteppedClock())
    orchestrator.connect(lambda tenant, job, event: told.append(event))
    done = TaskRun(0, TaskStatus.DONE, epoch=1, result={"v": 7})
    assigned = TaskRun(1, TaskStatus.ASSIGNED, epoch=1, agent=REQUEST.agent, **run)
    spec = JobSpec((TaskSpec(id="find", action="x.a.b"), SPEC))
    job = JobState(JobHead(TENANT, "j1", 1), Graph(spec), (done, assigned), (REQUEST,))
    orchestrator.perform(job, REQUEST)
    return wire.sent, told


def test_the_arguments_go_out_filled() -> None:
    sent, told = performed()

    assert [request.arguments for request in sent] == [{"value": 7}]
    assert told == []


def test_what_replaced_the_arguments_goes_out_instead() -> None:
    sent, _ = performed(arguments={"value": "{{ tasks.find.result.v }}!", "more": 1})
    assert sent[0].arguments == {"value": "7!", "more": 1}

    sent, _ = performed(arguments=literal({"value": "{{ as it is }}"}))
    assert sent[0].arguments == {"value": "{{ as it is }}"}


def test_the_action_that_people_said_yes_to_goes_out() -> None:
    sent, told = performed(digest=digest_of("x.a.b", {"value": 7}, "de", SPEC.effect, ("value",)))

    assert (len(sent), told) == (1, [])


def test_another_action_does_not_go_out() -> None:
    sent, told = performed(digest=digest_of("x.a.b", {"value": 8}, "de", SPEC.effect, ("value",)))

    assert sent == []
    assert [(type(event), getattr(event, "code", "")) for event in told] == [(TaskFailed, "not_approved")]
