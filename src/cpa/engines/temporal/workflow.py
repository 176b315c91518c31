"""One job as a workflow: the core decides inside, history is the truth of what came in.

    signal, update, timer, a publication's result  ->  inbox  ->  decide  ->  steps  ->  `publish`

One loop decides, fact after fact, a batch at a time; then `publish` writes the batch into the store and has its
commands carried out. The next batch is decided when that has come back. There is one timer, for the earliest due
command. Where the history grows long the execution goes on as a new one, with all that was not decided yet.

The store may be ahead of all this when a worker ended in between: see `decider`.

Replay runs this code again over the history and must come to the same: no clock but the workflow's, no chance, no
order of sets, nothing imported but the core. An activity's id holds a digest of all that was decided, so that a
core that decides otherwise is noticed at once.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError

from cpa.core.events import CancelRequested, JobSubmitted
from cpa.core.job import LOGIC
from cpa.engines.temporal.decider import Decider
from cpa.engines.temporal.values import (
    FACTS,
    LEAVE,
    PUBLISH,
    STALE,
    STATUS,
    TELL,
    UNCHANGED,
    WORKFLOW,
    Ended,
    Fact,
    JobInput,
    Publication,
    Published,
    Told,
)

MOST_UPDATES = 1_500
"""In one execution; the server takes 2,000."""
MOST_LOCAL = 200
"""Publications within one workflow task: signals and updates are taken up between workflow tasks only."""
MOST_LOCAL_BYTES = 1024 * 1024
"""Of results within one workflow task, as JSON: the server takes its end in one piece, of 4 MB at most."""
ONE_TRY = timedelta(seconds=20)
"""How long a publication may take before it is tried again."""
SILENCE = timedelta(seconds=6)
"""After so long without a sign of life of the worker that has it, another one is asked at once."""
_NEWEST = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
"""Where an execution follows another it may move to the newest version of the workers."""
_TRIES = 3
"""Of a publication on the spot; from then on the server has it tried, which costs no history."""
_encode = msgspec.json.Encoder().encode


@workflow.defn(name=WORKFLOW)
class JobWorkflow:
    @workflow.init
    def __init__(self, begin: JobInput) -> None:
        # Here and not in `run`: signals of the first moment find everything in place.
        self._decider = Decider(begin)
        self._publishing: asyncio.Task[Published] | None = None
        self._published = 0
        self._local, self._local_bytes = 0, 0
        self._fresh = False
        """An update was accepted, and that may not stand in history yet."""
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = 0
        self._news = True
        self._leaving = False
        self._updates = 0
        self._shown = begin.shown

    # -- facts come in -------------------------------------------------------------------------------------

    @workflow.signal(name=FACTS)
    def facts(self, facts: list[Fact]) -> None:
        self._decider.add(facts)
        self._news = True

    @workflow.signal(name=LEAVE)
    def leave(self) -> None:
        """Another engine takes the job over: nothing begins here any more, and the execution ends once the store
        has all that was decided."""
        self._leaving = self._news = True

    @workflow.update(name=TELL)
    async def tell(self, facts: list[Fact]) -> list[Told]:
        self._updates += 1
        asked = self._decider.add(facts)
        self._news = self._fresh = True
        await workflow.wait_condition(lambda: all(each.settled for each in asked))
        return [each.told for each in asked if each.told is not None]

    @tell.validator
    def refuse(self, facts: list[Fact]) -> None:
        """What changes nothing leaves no trace in history: it is answered at once."""
        reasons = self._decider.refusals(facts, _now())
        if reasons:
            number = self._decider.job.head.number
            raise ApplicationError("nothing changes", number, reasons, type=UNCHANGED)

    # -- the loop ------------------------------------------------------------------------------------------

    @workflow.run
    async def run(self, begin: JobInput) -> Ended:
        check_logic(begin)
        while True:
            self._news = False
            if self._publishing is not None and self._publishing.done():
                publishing, self._publishing = self._publishing, None
                self._decider.came_back(publishing.result())
            if self._publishing is None:
                if self._rolls():
                    workflow.continue_as_new(self._rest(), initial_versioning_behavior=_NEWEST)
                self._go_on()
            if self._publishing is None:
                if self._over() and not self._decider.inbox:
                    self._show()
                    head = self._decider.job.head
                    return Ended(head.status.value, head.number, self._decider.start)
                # While something is being published its end is the next news, and no timer is needed.
                self._set_alarm()
            try:
                await workflow.wait_condition(self._called)
            except asyncio.CancelledError:
                # Somebody cancelled the execution at the server: for the job that is a person's wish.
                event = CancelRequested(time=0, by="temporal", reason="cancelled at the Temporal server")
                self._decider.add([Fact(event, salt=_SALT)])
                self._news = True

    def _go_on(self) -> None:
        """The next batch, and on its way."""
        decider, now = self._decider, _now()
        postponed = decider.start
        if not self._leaving:
            decider.fire(now)
        decider.decide(now)
        if postponed and not decider.start:
            self._show()
        publication = decider.publication()
        if publication is not None:
            self._published += 1
            name = f"{self._published}:{decider.digest}"
            self._publishing = asyncio.create_task(self._carried(publication, name))

    def _called(self) -> bool:
        if self._news or (self._publishing is not None and self._publishing.done()):
            return True
        return self._publishing is None and (self._over() or self._rolls())

    def _over(self) -> bool:
        return (self._decider.job.head.status.ended or self._leaving) and workflow.all_handlers_finished()

    def _rolls(self) -> bool:
        """Whether to go on in a new execution."""
        long = workflow.info().is_continue_as_new_suggested() or self._updates >= MOST_UPDATES
        return long and not self._over() and workflow.all_handlers_finished()

    def _rest(self) -> JobInput:
        return msgspec.structs.replace(self._decider.rest(), shown=self._shown)

    def _show(self) -> None:
        """Let the server's lists have the status, where they have a place for it."""
        head = self._decider.job.head
        status = head.status.value if head.status.ended or not self._leaving else "moved"
        if self._shown and self._shown != status:
            self._shown = status
            workflow.upsert_search_attributes([STATUS.value_set(status)])

    # -- time ----------------------------------------------------------------------------------------------

    def _set_alarm(self) -> None:
        """One timer, for the earliest. One that rings too early is set again then: that is cheaper in history than
        to cancel it whenever something else happens."""
        earliest = self._decider.earliest
        if not earliest or (self._alarm is not None and self._alarm_at <= earliest):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = earliest
        self._alarm = asyncio.create_task(self._ring(max(earliest - _now(), 1)))

    async def _ring(self, after: int) -> None:
        await workflow.sleep(timedelta(milliseconds=after))
        self._alarm = None
        self._news = True

    # -- publishing ----------------------------------------------------------------------------------------

    async def _carried(self, publication: Publication, name: str) -> Published:
        """The result of the publication."""
        if not self._fresh and self._local < MOST_LOCAL and self._local_bytes < MOST_LOCAL_BYTES:
            try:
                published: Published = await workflow.execute_local_activity(
                    PUBLISH,
                    publication,
                    result_type=Published,
                    activity_id=name,
                    start_to_close_timeout=ONE_TRY,
                    retry_policy=RetryPolicy(
                        initial_interval=timedelta(milliseconds=200), maximum_attempts=_TRIES
                    ),
                )
            except FailureError as error:
                # It is tried without end, but for one refusal: there is another job of this id.
                if isinstance(error, ApplicationError) and error.type == STALE:
                    raise
            else:
                self._local += 1
                self._local_bytes += len(_encode(published))
                return published
        self._fresh, self._local, self._local_bytes = False, 0, 0
        later: Published = await workflow.execute_activity(
            PUBLISH,
            publication,
            result_type=Published,
            activity_id=f"{name}:server",
            start_to_close_timeout=ONE_TRY,
            heartbeat_timeout=SILENCE,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=5)
            ),
        )
        return later


def _now() -> int:
    return int(workflow.now().timestamp() * 1000)


def check_logic(begin: JobInput) -> None:
    """Raise where the job needs a newer core: its workflow waits for a worker that has one."""
    submitted = [fact.event.logic for fact in begin.inbox if isinstance(fact.event, JobSubmitted)]
    needed = max(begin.head.logic, *submitted, 0)
    if needed > LOGIC:
        raise RuntimeError(f"this job needs logic {needed}, this program knows up to {LOGIC}")


_SALT = "00" * 16
"""Of words that are always the same, and no secret."""
