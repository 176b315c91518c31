"""What every engine must keep of `ports.engine`. An engine's test module subclasses `EngineContract` and gives the
fixture `begin`: a function of `Outside` that enters one life of a process around the store of this test.

A life is left by leaving its context; the next one finds what the last one left. Nothing looks behind the port.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from cpa.core.audit import kind
from cpa.core.classes import EffectClass, FailureClass
from cpa.core.commands import AskPerson
from cpa.core.events import JobDiscarded, JobReopened, JobSubmitted, QuestionAnswered, TaskSucceeded
from cpa.core.explain import Reason, explain
from cpa.core.job import JobSpec, JobStatus, RetryPolicy, Snapshot, TaskSpec, TaskStatus
from cpa.errors import Conflict, Forbidden, NotFound, Unavailable
from cpa.ports.engine import Engine, LiveUpdate, Outcome, StoredEvent, Submission
from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification
from cpa.ports.nonces import Nonce, Replayed

TENANT = "default"
PATIENCE = 60.0
"""Seconds an end may take on a loaded machine."""


@dataclass
class Outside:
    """What outlives every process: effects, and whether who works may go on."""

    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def executors(self) -> list[BaseExecutor]:
        return [Ledger(self), Fails(self)]


class Bare(Outside):
    """A process that can do nothing but what every one can."""

    def executors(self) -> list[BaseExecutor]:
        return []


class Ledger(BaseExecutor):
    """Has effects, counted under (job, task); answers once the gate is open."""

    actions: ClassVar[tuple[str, ...]] = ("mark.verifiable", "mark.unsafe")

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        self._outside.effects[request.job, request.task] += 1
        await self._outside.gate.wait()
        return ExecutionResult(success=True, result={"job": request.job})

    async def verify(self, request: ActionRequest) -> Verification:
        happened = self._outside.effects[request.job, request.task] > 0
        return Verification(
            verdict=Verdict.HAPPENED if happened else Verdict.ABSENT, result={"job": request.job}
        )


class Fails(BaseExecutor):
    """`fail.times` fails technically as often as it is told in all, then succeeds."""

    actions: ClassVar[tuple[str, ...]] = ("fail.times",)

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        self._outside.effects[request.job, request.task] += 1
        if self._outside.effects[request.job, request.task] > request.arguments["times"]:
            return ExecutionResult(success=True, result={"tries": request.epoch})
        return ExecutionResult.failed(FailureClass.TECHNICAL, "broken", "größter Fehler")

    async def verify(self, request: ActionRequest) -> Verification:
        return Verification(verdict=Verdict.UNKNOWN)


Begin = Callable[[Outside], AbstractAsyncContextManager[Engine]]

ONE = JobSpec((TaskSpec(id="a", action="flow.noop", arguments={"value": "größer"}),), description="Prüfung")
ASKS = JobSpec((TaskSpec(id="a", action="flow.noop", approval=True),))
MARKS = JobSpec((TaskSpec(id="m", action="mark.verifiable", effect=EffectClass.VERIFIABLE),))
UNSAFE = JobSpec((TaskSpec(id="u", action="mark.unsafe", effect=EffectClass.UNSAFE),))


def fails(times: int, *, tries: int = 1, retries: int = 1) -> JobSpec:
    """Done, then fails so often, then is done, then one more."""
    policy = RetryPolicy(max_attempts=tries, first_delay=1)
    return JobSpec(
        (
            TaskSpec(id="first", action="flow.noop", arguments={"value": 1}),
            TaskSpec(id="f", action="fail.times", arguments={"times": times}, needs=(0,), retry=policy),
            TaskSpec(id="last", action="flow.noop", needs=(1,)),
        ),
        max_retries=retries,
    )


def submission(spec: JobSpec = ONE, **more: Any) -> Submission:
    return Submission(tenant=TENANT, spec=spec, **more)


async def submitted(engine: Engine, spec: JobSpec = ONE, **more: Any) -> str:
    return (await engine.submit(submission(spec, **more))).job


async def ended(engine: Engine, job: str) -> Snapshot:
    head = await engine.wait(TENANT, job, PATIENCE)
    assert head.status.ended, head
    return await engine.query(TENANT, job)


async def until(holds: Callable[[], Any]) -> None:
    """Poll until it holds (it may be a coroutine function's call)."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


async def asking(engine: Engine, job: str) -> AskPerson:
    """The one open question of the job, once there is one."""
    found: list[AskPerson] = []

    async def asked() -> bool:
        snapshot = await engine.query(TENANT, job)
        found[:] = [each for each in snapshot.commands if isinstance(each, AskPerson)]
        return bool(found)

    await until(asked)
    return found[0]


async def answered(engine: Engine, job: str, by: str, **more: Any) -> Outcome:
    asked = await asking(engine, job)
    said: dict[str, Any] = {"time": 0, "task": asked.task, "epoch": asked.epoch, "digest": asked.digest}
    return await engine.send(TENANT, job, QuestionAnswered(**(said | {"yes": True, "by": by} | more)))


async def _held(engine: Engine, job: str) -> bool:
    return (await engine.query(TENANT, job)).tasks[0].status is TaskStatus.HELD


class EngineContract:
    @pytest.fixture
    def outside(self) -> Outside:
        return Outside()

    # -- submit --------------------------------------------------------------------------------------------

    async def test_a_job_is_found_after_submit_and_ends(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            receipt = await engine.submit(submission(priority=3))
            found = await engine.query(TENANT, receipt.job)
            assert (found.head.id, found.head.priority, found.spec) == (receipt.job, 3, ONE)
            assert receipt.new

            done = await ended(engine, receipt.job)
            assert (done.head.status, done.tasks[0].result) == (JobStatus.DONE, {"value": "größer"})
            assert done.commands == ()
            assert done.head.created == receipt.created
            place = await engine.place(TENANT, receipt.job, "a")
            assert place is not None
            assert (place.index, place.action, place.ended) == (0, "flow.noop", True)
            assert place.run == done.tasks[0]
            assert await engine.place(TENANT, receipt.job, "b") is None

    async def test_the_first_event_says_who_asked(self, begin: Begin, outside: Outside) -> None:
        """Not whom the plan keeps from allowing it, nor the key it came under: who was told by the caller."""
        async with begin(outside) as engine:
            told = await submitted(engine, sender="key_1", by="Jörg")
            untold = await submitted(engine)

            first, other = [(await engine.events(TENANT, job, limit=1))[0].event for job in (told, untold)]
            assert isinstance(first, JobSubmitted)
            assert isinstance(other, JobSubmitted)
            assert (first.by, other.by) == ("Jörg", "")

    async def test_every_event_is_stored_once_with_its_leaf(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine)
            done = await ended(engine, job)
            stored = await engine.events(TENANT, job)

            assert [each.number for each in stored] == list(range(1, done.head.number + 1))
            assert [hashlib.sha256(each.body).hexdigest() for each in stored] == [
                each.leaf for each in stored
            ]
            kinds = ["job_submitted", "agent_chosen", "task_succeeded"]
            assert [kind(each.event) for each in stored] == kinds
            times = [each.event.time for each in stored]
            assert times == sorted(times)
            assert "größer" not in stored[-1].body.decode()
            assert await engine.events(TENANT, job, after=2) == stored[2:]
            assert await engine.events(TENANT, job, limit=1) == stored[:1]

    async def test_another_tenant_finds_nothing(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS)
            answer = TaskSucceeded(time=0, task=0, epoch=1)
            for call in (
                engine.query("nord", job),
                engine.events("nord", job),
                engine.wait("nord", job, 0),
                engine.cancel("nord", job, by="x"),
                engine.retry("nord", job, by="x"),
                engine.send("nord", job, answer),
                engine.query(TENANT, "0199-no-such-job"),
                engine.cancel(TENANT, "0199-no-such-job", by="x"),
            ):
                with pytest.raises(NotFound):
                    await call
            assert (await engine.list("nord")).total == 0

    async def test_the_same_key_gives_the_same_job_and_another_body_a_conflict(
        self, begin: Begin, outside: Outside
    ) -> None:
        key = {"sender": "k", "dedupe": "schlüssel 1", "body_digest": "x"}
        async with begin(outside) as engine:
            receipts = await asyncio.gather(*(engine.submit(submission(**key)) for _ in range(5)))
            assert len({receipt.job for receipt in receipts}) == 1
            assert [receipt.new for receipt in receipts].count(True) == 1
            with pytest.raises(Conflict):
                await engine.submit(submission(**(key | {"body_digest": "y"})))
            assert (await engine.submit(submission(**(key | {"sender": "l"})))).job != receipts[0].job
            other = Submission(tenant="nord", spec=ONE, **key)
            assert (await engine.submit(other)).job != receipts[0].job
        async with begin(outside) as engine:
            again = await engine.submit(submission(**key))
            assert (again.job, again.new) == (receipts[0].job, False)
            assert await engine.recall(TENANT, "k", "schlüssel 1", "x") == again
            assert await engine.recall(TENANT, "k", "2", "x") is None
            with pytest.raises(Conflict):
                await engine.recall(TENANT, "k", "schlüssel 1", "y")
            assert (await engine.list(TENANT)).total == 2

    async def test_many_at_once(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            receipts = await engine.submit_many([submission() for _ in range(20)])
            assert len({receipt.job for receipt in receipts}) == 20
            for receipt in receipts:
                assert (await ended(engine, receipt.job)).head.status is JobStatus.DONE
            page = await engine.list(TENANT, status=JobStatus.DONE, limit=3)
            assert (page.total, len(page.jobs)) == (20, 3)
            assert (await engine.list(TENANT, status=JobStatus.FAILED)).total == 0

    async def test_a_postponed_job_starts_at_its_time_and_not_before(
        self, begin: Begin, outside: Outside
    ) -> None:
        async with begin(outside) as engine:
            start = time.time_ns() // 1_000_000 + 700
            job = await submitted(engine, not_before=start)
            assert (await engine.query(TENANT, job)).head.status is JobStatus.PENDING
            done = await ended(engine, job)
            assert done.head.status is JobStatus.DONE
            assert done.head.started >= start
            assert await engine.start_of(TENANT, job) == 0

    async def test_when_a_postponed_job_is_to_start_is_known(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            start = time.time_ns() // 1_000_000 + 3_600_000
            job, at_once = await submitted(engine, not_before=start), await submitted(engine, ASKS)
            assert await engine.start_of(TENANT, job) == start
            assert await engine.start_of(TENANT, at_once) == 0
            with pytest.raises(NotFound):
                await engine.start_of("other", job)
        async with begin(outside) as engine:
            assert await engine.start_of(TENANT, job) == start

    async def test_a_postponed_job_can_be_cancelled(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, not_before=time.time_ns() // 1_000_000 + 3_600_000)
            assert (await engine.cancel(TENANT, job, by="anna")).changed
            assert (await ended(engine, job)).head.status is JobStatus.CANCELLED

    async def test_a_job_past_its_deadline_ends(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS, due=time.time_ns() // 1_000_000 + 500)
            failed = await ended(engine, job)
            assert (failed.head.status, failed.head.cause) == (JobStatus.FAILED, "deadline")

    async def test_nothing_new_is_taken_while_draining(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine)
            await ended(engine, job)
            await engine.drain(1)
            with pytest.raises(Unavailable):
                await engine.submit(submission())
            assert (await engine.query(TENANT, job)).head.status is JobStatus.DONE

    # -- facts ---------------------------------------------------------------------------------------------

    async def test_a_late_and_a_stale_answer_change_nothing_and_say_why(
        self, begin: Begin, outside: Outside
    ) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS)
            asked = await asking(engine, job)
            before = (await engine.query(TENANT, job)).head.number
            stale = await engine.send(TENANT, job, TaskSucceeded(time=0, task=0, epoch=9))
            assert stale == Outcome(False, before, "not_expected")
            unknown = await engine.send(TENANT, job, TaskSucceeded(time=0, task=7, epoch=1))
            assert unknown == Outcome(False, before, "no_such_task")
            wrong = QuestionAnswered(time=0, task=0, epoch=asked.epoch + 1, yes=True, by="anna")
            assert not (await engine.send(TENANT, job, wrong)).changed

            cancelled = await engine.cancel(TENANT, job, by="anna", reason="Irrtum")
            assert cancelled == Outcome(True, before + 1)
            late = await engine.send(TENANT, job, TaskSucceeded(time=0, task=0, epoch=1))
            assert late == Outcome(False, before + 1, "ended")
            assert (await engine.cancel(TENANT, job, by="anna")).reason == "ended"
            assert len(await engine.events(TENANT, job)) == before + 1

    async def test_a_message_counts_once(self, begin: Begin, outside: Outside) -> None:
        me = "agent://web/größe"
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS)
            asked = await asking(engine, job)
            yes = QuestionAnswered(
                time=0, task=0, epoch=asked.epoch, yes=True, by="anna", digest=asked.digest
            )
            before = (await engine.query(TENANT, job)).head.number
            stale = TaskSucceeded(time=0, task=0, epoch=9)
            told = await engine.send(TENANT, job, stale, message=(me, "0"))
            assert told == Outcome(False, before, "not_expected")
            assert (await engine.send(TENANT, job, stale, message=(me, "0"))).reason == "duplicate"
            assert await engine.send(TENANT, job, None, message=(me, "n")) == Outcome(False, before)
            assert (await engine.send(TENANT, job, None, message=(me, "n"))).reason == "duplicate"

            many = [engine.send(TENANT, job, yes, message=(me, "1")) for _ in range(8)]
            outcomes = await asyncio.gather(*many)
            assert [each.changed for each in outcomes].count(True) == 1
            assert {each.reason for each in outcomes if not each.changed} == {"duplicate"}
            assert (await ended(engine, job)).head.status is JobStatus.DONE
        async with begin(outside) as engine:
            assert (await engine.send(TENANT, job, yes, message=(me, "1"))).reason == "duplicate"
            assert (await engine.send(TENANT, job, yes, message=("x", "1"))).reason == "ended"
            assert (await engine.send(TENANT, job, yes, message=("x", "1"))).reason == "duplicate"

    async def test_a_nonce_counts_once_whatever_it_comes_with(self, begin: Begin, outside: Outside) -> None:
        nonce = Nonce("default/ag_1", "n1", 2**52)
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS)
            asked = await asking(engine, job)
            yes = QuestionAnswered(
                time=0, task=0, epoch=asked.epoch, yes=True, by="anna", digest=asked.digest
            )
            assert (await engine.send(TENANT, job, yes, message=("m", "1"), nonce=nonce)).changed
            done = await ended(engine, job)
            for call in (
                engine.send(TENANT, job, yes, message=("m", "2"), nonce=nonce),
                engine.submit(submission(nonce=nonce)),
                engine.remember(TENANT, nonce=nonce),
            ):
                with pytest.raises(Replayed):
                    await call
            assert (await engine.query(TENANT, job)).head.number == done.head.number
            assert (await engine.list(TENANT)).total == 1
            assert await engine.remember("nord", nonce=nonce)

    async def test_what_concerns_no_job_is_remembered(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            calls = [engine.remember(TENANT, message=("x", "1")) for _ in range(5)]
            assert (await asyncio.gather(*calls)).count(True) == 1
        async with begin(outside) as engine:
            assert not await engine.remember(TENANT, message=("x", "1"))
            assert await engine.remember(TENANT, message=("y", "1"))

    async def test_what_a_message_does_comes_first_and_once(self, begin: Begin, outside: Outside) -> None:
        did: list[str] = []
        nonce = Nonce("default/ag_1", "n1", 2**52)

        async def fail() -> None:
            did.append("failed")
            raise Unavailable("not now", remedy="ask again")

        async def work() -> None:
            await asyncio.sleep(0)
            did.append("done")

        async with begin(outside) as engine:
            with pytest.raises(Unavailable):
                await engine.remember(TENANT, message=("x", "1"), nonce=nonce, first=fail)
            calls = [engine.remember(TENANT, message=("x", "1"), first=work) for _ in range(5)]
            assert (await asyncio.gather(*calls)).count(True) == 1
            assert await engine.remember(TENANT, nonce=nonce)
        async with begin(outside) as engine:
            assert not await engine.remember(TENANT, message=("x", "1"), first=work)
        assert did == ["failed", "done"]

    async def test_who_works_is_stopped_by_a_cancel(self, begin: Begin, outside: Outside) -> None:
        outside.gate.clear()
        async with begin(outside) as engine:
            job = await submitted(engine, MARKS)
            await until(lambda: outside.effects[job, "m"])
            assert (await engine.cancel(TENANT, job, by="anna")).changed
            assert (await ended(engine, job)).head.status is JobStatus.CANCELLED
        assert outside.effects[job, "m"] == 1

    # -- people --------------------------------------------------------------------------------------------

    async def test_several_must_say_yes_and_not_who_asked(self, begin: Begin, outside: Outside) -> None:
        task = TaskSpec(
            id="a", action="flow.noop", approval=True, approvals=2, approvers=("jörg", "anna", "uwe")
        )
        async with begin(outside) as engine:
            job = await submitted(engine, JobSpec((task,), requester="jörg"))
            assert (await answered(engine, job, "jörg")).reason == "own_request"
            assert (await answered(engine, job, "eve")).reason == "not_approver"
            assert (await answered(engine, job, "anna", digest="00")).reason == "other_action"
            assert (await answered(engine, job, "anna")).changed
            assert (await answered(engine, job, "anna")).reason == "duplicate"
        async with begin(outside) as engine:
            assert (await answered(engine, job, "uwe")).changed
            done = await ended(engine, job)
            assert (done.head.status, done.tasks[0].approvals) == (JobStatus.DONE, ("anna", "uwe"))

    async def test_who_corrects_a_task_does_not_allow_it_nor_pass_what_others_must_allow(
        self, begin: Begin, outside: Outside
    ) -> None:
        gate = TaskSpec(id="gate", action="flow.noop", approval=True, approvals=1)
        pay = TaskSpec(id="pay", action="flow.noop", needs=(0,))
        async with begin(outside) as engine:
            job = await submitted(engine, JobSpec((gate, pay), requester="jörg"))
            assert (await answered(engine, job, "anna", yes=False)).changed
            await ended(engine, job)
            with pytest.raises(Forbidden, match="allow first"):
                await engine.reopen(TENANT, job, JobReopened(time=0, by="jörg", skip=(0,)))
            await engine.reopen(TENANT, job, JobReopened(time=0, by="uwe", fixes={"0": {"value": "ü"}}))
        async with begin(outside) as engine:
            assert (await answered(engine, job, "uwe")).reason == "own_request"
            assert (await answered(engine, job, "anna")).changed
            assert (await ended(engine, job)).head.status is JobStatus.DONE

    async def test_what_a_person_was_asked_for_is_used(self, begin: Begin, outside: Outside) -> None:
        ask = TaskSpec(
            id="ask",
            action="person.ask",
            arguments={"question": "Wie viel?", "form": {"x": {"type": "number"}}},
            timeout=600_000,
        )
        use = TaskSpec(
            id="use",
            action="flow.noop",
            arguments={"value": "{{ tasks.ask.result.x }}"},
            needs=(0,),
            references=(0,),
        )
        async with begin(outside) as engine:
            job = await submitted(engine, JobSpec((ask, use)))
            assert (await answered(engine, job, "anna", answer={"x": 7})).changed
            assert [run.result for run in (await ended(engine, job)).tasks] == [{"x": 7}, {"value": 7}]

    async def test_a_question_expires(self, begin: Begin, outside: Outside) -> None:
        task = TaskSpec(id="a", action="flow.noop", approval=True, approvals=1, approval_expires=200)
        async with begin(outside) as engine:
            job = await submitted(engine, JobSpec((task,)))
            failed = await ended(engine, job)
            assert failed.head.status is JobStatus.FAILED
            assert failed.tasks[0].error is not None
            assert failed.tasks[0].error.code == "approval_expired"

    # -- runs ----------------------------------------------------------------------------------------------

    async def test_a_technical_failure_is_tried_again_by_the_core_alone(
        self, begin: Begin, outside: Outside
    ) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, fails(2, tries=3))
            done = await ended(engine, job)
            assert (done.head.status, done.head.run, done.tasks[1].epoch) == (JobStatus.DONE, 0, 3)
            assert outside.effects[job, "f"] == 3

    async def test_a_retry_is_the_next_run_and_keeps_what_is_done(
        self, begin: Begin, outside: Outside
    ) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, fails(1))
            failed = await ended(engine, job)
            assert (failed.head.status, failed.head.cause) == (JobStatus.FAILED, "task:f")
            opened = await engine.retry(TENANT, job, by="anna")
            assert opened == Outcome(True, failed.head.number + 1)
            done = await ended(engine, job)
            assert (done.head.status, done.head.run) == (JobStatus.DONE, 1)
            assert [run.epoch for run in done.tasks] == [1, 2, 1]
            with pytest.raises(Conflict):
                await engine.retry(TENANT, job, by="anna")

    async def test_only_what_failed_is_retried_and_not_without_end(
        self, begin: Begin, outside: Outside
    ) -> None:
        async with begin(outside) as engine:
            waiting = await submitted(engine, ASKS)
            with pytest.raises(Conflict):
                await engine.retry(TENANT, waiting, by="anna")
            job = await submitted(engine, fails(9, retries=0))
            assert (await ended(engine, job)).dead
            with pytest.raises(Conflict) as caught:
                await engine.retry(TENANT, job, by="anna")
            assert caught.value.field == "job"

    async def test_two_who_retry_at_once_open_one_run(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, fails(1, retries=5))
            await ended(engine, job)
            calls = [engine.retry(TENANT, job, by=name) for name in ("anna", "uwe", "jörg")]
            told = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(each, Outcome) for each in told].count(True) == 1
            assert all(isinstance(each, Outcome | Conflict) for each in told)
            assert (await ended(engine, job)).head.run == 1

    async def test_a_dead_letter_is_taken_up_as_a_person_wants(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, fails(9, retries=0))
            await ended(engine, job)
            nothing = JobReopened(time=0, by="anna", dead_letter=True, skip=(7,))
            with pytest.raises(Conflict):
                await engine.reopen(TENANT, job, nothing)
            fixed = JobReopened(time=0, by="anna", dead_letter=True, fixes={"1": {"times": 0}}, restart=(0,))
            assert (await engine.reopen(TENANT, job, fixed)).changed
            done = await ended(engine, job)
            assert (done.head.status, [run.epoch for run in done.tasks]) == (JobStatus.DONE, [2, 2, 1])

    async def test_what_is_wanted_for_one_run_opens_no_other(self, begin: Begin, outside: Outside) -> None:
        again = JobReopened(time=0, by="anna", dead_letter=True)
        async with begin(outside) as engine:
            job = await submitted(engine, fails(9, retries=9))
            await ended(engine, job)
            calls = [engine.reopen(TENANT, job, again, run=0) for _ in range(3)]
            told = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(each, Outcome) for each in told].count(True) == 1
            assert (await ended(engine, job)).head.run == 1
            with pytest.raises(Conflict) as caught:
                await engine.reopen(TENANT, job, again, run=0)
            late = [each for each in told if isinstance(each, Conflict)]
            assert [(each.field, each.value) for each in (*late, caught.value)] == [("run", "0")] * 3
            assert (await engine.reopen(TENANT, job, again, run=1)).changed
            assert (await ended(engine, job)).head.run == 2

    async def test_a_discarded_job_leaves_the_dead_letters_once(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, fails(9, retries=0))
            await ended(engine, job)
            discard = [JobDiscarded(time=0, by="anna", note="erledigt") for _ in range(2)]
            outcomes = [await engine.send(TENANT, job, each) for each in discard]
            assert [each.reason for each in outcomes] == ["", "duplicate"]
        async with begin(outside) as engine:
            found = await engine.query(TENANT, job)
            assert (found.dead, found.head.discarded) == (False, True)

    # -- reading -------------------------------------------------------------------------------------------

    async def test_waiting_ends_with_the_run_or_with_patience(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS)
            assert not (await engine.wait(TENANT, job, 0.05)).status.ended
            waits = [asyncio.create_task(engine.wait(TENANT, job, PATIENCE)) for _ in range(3)]
            assert (await answered(engine, job, "anna")).changed
            heads = await asyncio.gather(*waits)
            assert {head.status for head in heads} == {JobStatus.DONE}
            assert (await engine.wait(TENANT, job, 0)).status is JobStatus.DONE

    async def test_a_follower_sees_every_event_once_and_the_end(self, begin: Begin, outside: Outside) -> None:
        chain = tuple(TaskSpec(id=f"t{n}", action="flow.noop", needs=(n - 1,) if n else ()) for n in range(5))
        async with begin(outside) as engine:
            job = await submitted(engine, JobSpec(chain))
            seen = [each.number async for each in engine.follow(TENANT, job) if isinstance(each, StoredEvent)]
            assert seen == list(range(1, 12))
            rest = [each async for each in engine.follow(TENANT, job, after=10)]
            assert [each.number for each in rest if isinstance(each, StoredEvent)] == [11]

    async def test_a_follower_sees_progress_that_nothing_stores(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS)
            await asking(engine, job)
            shown: list[str] = []

            async def follow() -> None:
                async for each in engine.follow(TENANT, job):
                    if isinstance(each, LiveUpdate):
                        shown.append(each.message)

            following = asyncio.create_task(follow())

            def seen() -> bool:
                engine.show(TENANT, job, LiveUpdate(job, "a", 1, 0.5, "größtenteils"))
                return bool(shown)

            await until(seen)
            assert {task: each.message for task, each in engine.shown(TENANT, job).items()} == {
                "a": "größtenteils"
            }
            assert engine.shown("andere", job) == {}
            assert (await answered(engine, job, "anna")).changed
            await asyncio.wait_for(following, PATIENCE)
            assert engine.shown(TENANT, job) == {}
            assert set(shown) == {"größtenteils"}
            assert len(await engine.events(TENANT, job)) == (await engine.query(TENANT, job)).head.number

    async def test_jobs_are_listed_newest_first(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            first = await submitted(engine)
            created = (await engine.query(TENANT, first)).head.created
            await until(lambda: time.time_ns() // 1_000_000 > created)
            second = await submitted(engine)
            page = await engine.list(TENANT)
            assert [head.id for head, _, _ in page.jobs] == [second, first]
            assert page.jobs[0][2] == "Prüfung"
            assert [head.id for head, _, _ in (await engine.list(TENANT, limit=1, offset=1)).jobs] == [first]

    # -- going on ------------------------------------------------------------------------------------------

    async def test_a_wide_job_keeps_to_its_room_and_is_joined(self, begin: Begin, outside: Outside) -> None:
        tasks = [TaskSpec(id=f"t{n}", action="flow.noop") for n in range(120)]
        join = TaskSpec(id="join", action="flow.noop", needs=tuple(range(120)))
        async with begin(outside) as engine:
            job = await submitted(engine, JobSpec((*tasks, join), max_parallel=7))
            done = await ended(engine, job)
            assert {run.status for run in done.tasks} == {TaskStatus.DONE}
            assert {run.epoch for run in done.tasks} == {1}
            assert done.head.number == 1 + 2 * 121

    async def test_the_next_life_proves_what_the_last_one_began(self, begin: Begin, outside: Outside) -> None:
        outside.gate.clear()
        async with begin(outside) as engine:
            job = await submitted(engine, MARKS)
            await until(lambda: outside.effects[job, "m"])
        outside.gate.set()
        async with begin(outside) as engine:
            assert (await ended(engine, job)).head.status is JobStatus.DONE
        assert outside.effects[job, "m"] == 1

    async def test_what_may_not_be_done_twice_is_asked_about(self, begin: Begin, outside: Outside) -> None:
        outside.gate.clear()
        async with begin(outside) as engine:
            job = await submitted(engine, UNSAFE)
            await until(lambda: outside.effects[job, "u"])
        async with begin(outside) as engine:
            assert (await asking(engine, job)).question == "doubt"
            assert (await answered(engine, job, "anna")).changed
            assert (await ended(engine, job)).head.status is JobStatus.DONE
        assert outside.effects[job, "u"] == 1

    async def test_who_waits_waits_on_in_the_next_life(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS)
            before = await asking(engine, job)
        async with begin(outside) as engine:
            assert await asking(engine, job) == before
            assert (await answered(engine, job, "anna")).changed
            assert (await ended(engine, job)).head.status is JobStatus.DONE

    async def test_what_nobody_here_can_do_waits_says_why_and_goes_on_with_who_can(
        self, begin: Begin, outside: Outside
    ) -> None:
        async with begin(Bare()) as engine:
            job = await submitted(engine, MARKS)
            await until(lambda: _held(engine, job))
            [said] = explain(await engine.query(TENANT, job))
            assert said.reason is Reason.NO_AGENT
            assert said.remedy
            assert engine.aside == 0
            assert engine.trouble is None
        async with begin(outside) as engine:
            assert (await ended(engine, job)).head.status is JobStatus.DONE
        assert outside.effects[job, "m"] == 1

    async def test_all_that_was_open_is_closed_in_the_next_life(self, begin: Begin, outside: Outside) -> None:
        """A time limit and a question, in whatever order they are found again."""
        async with begin(outside) as engine:
            job = await submitted(engine, ASKS, due=time.time_ns() // 1_000_000 + 3_600_000)
            await asking(engine, job)
        async with begin(outside) as engine:
            assert (await engine.cancel(TENANT, job, by="anna")).changed
            done = await ended(engine, job)
            assert (done.head.status, done.commands) == (JobStatus.CANCELLED, ())

    # -- health --------------------------------------------------------------------------------------------

    async def test_an_engine_that_is_well_says_so(self, begin: Begin, outside: Outside) -> None:
        async with begin(outside) as engine:
            await ended(engine, await submitted(engine))
            assert (engine.trouble, engine.aside) == (None, 0)
