"""An agent in a few lines:

    from cpa.agents import Agent

    agent = Agent("calculator", type="DATA")

    @agent.action("x.calculator.add", effect="idempotent")
    async def add(a: float, b: float) -> dict[str, float]:
        return {"sum": a + b}

    if __name__ == "__main__":
        agent.run()

docs/EXECUTOR_GUIDE.md goes on from here.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cpa.agents.functions import Function, FunctionExecutor, Look
from cpa.agents.identity import known
from cpa.agents.loop import run
from cpa.agents.session import Options, Session, ended_by_signals
from cpa.artifacts.remote import RemoteArtifacts
from cpa.core.classes import EffectClass
from cpa.errors import BadInput, CPAError, first_error
from cpa.executors.registry import ExecutorRegistry
from cpa.ports.agents import Readiness
from cpa.ports.executor import ActionRequest, BaseExecutor
from cpa.telemetry.logs import configure

F = TypeVar("F", bound=Function)

URL = "http://127.0.0.1:8700"


class SystemClock:
    """`ports.clock.Clock` of this machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class Agent:
    """A process that does actions for a scheduler. Give it actions, then `run`.

    What is not given is taken from the environment: the scheduler's address from CPA_URL, the key of the first
    registration from CPA_API_KEY, or an enrolment token from CPA_ENROLMENT_TOKEN. After that registration the agent
    has a key of its own, which lies in its folder.
    """

    def __init__(
        self,
        name: str,
        *,
        type: str = "DATA",
        url: str = "",
        key: str = "",
        token: str = "",
        slots: int = 4,
        data: Path | str = "",
        listen: str = "",
        endpoint: str = "",
        tags: tuple[str, ...] = (),
        sign: bool = False,
        readiness: Callable[[], Readiness] = Readiness,
        refuses: Callable[[ActionRequest], str] = lambda _: "",
        grace: float = 20.0,
    ) -> None:
        """`slots`: attempts at the same time. `data`: its folder, `<name>-agent` here by default.

        `listen`: HOST:PORT to be called at, reached by the scheduler as `endpoint`; without it the agent opens a
        channel, which works from behind a firewall. `tags`: free capabilities. `readiness` is asked at each beat;
        `refuses` may say why a task cannot be done just now. `grace`: seconds that running attempts may go on after
        SIGTERM. `sign`: sign what is sent (docs/lam.md), also asked for by CPA_SIGN=1.
        """
        if slots < 1:
            raise BadInput(
                "an agent has at least one slot", field="slots", value=slots, remedy="use 1 or more"
            )
        if isinstance(tags, str):  # type: ignore[unreachable]
            raise BadInput(
                "tags are several words",
                field="tags",
                value=tags,
                remedy=f"write ({tags!r},) for the one tag {tags}",
            )
        self._options = Options(
            name=name,
            type=type,
            url=url or os.environ.get("CPA_URL", URL),
            key=key or os.environ.get("CPA_API_KEY", ""),
            token=token or os.environ.get("CPA_ENROLMENT_TOKEN", ""),
            data=Path(data) if data else _folder(name),
            slots=slots,
            listen=listen,
            endpoint=endpoint,
            tags=tags,
            sign=sign or os.environ.get("CPA_SIGN", "").lower() in ("1", "true", "yes", "on"),
            grace=grace,
        )
        self._readiness, self._refuses = readiness, refuses
        self._functions = FunctionExecutor()
        self._others: list[BaseExecutor] = []
        self._artifacts: RemoteArtifacts | None = None

    @property
    def artifacts(self) -> RemoteArtifacts:
        """Files at the scheduler: those that tasks bring, and those they give. Closed at the end of `run`."""
        if self._artifacts is None:
            self._artifacts = RemoteArtifacts(self.url, self._own_key)
        return self._artifacts

    @property
    def url(self) -> str:
        """The scheduler's address."""
        return self._options.url

    @property
    def data(self) -> Path:
        """The agent's folder."""
        return self._options.data

    def configure(self, *, name: str = "", data: Path | None = None, **given: Any) -> None:
        """Say anew what was given when it was made, as options of a command do: what is empty changes nothing."""
        if name and self._options.data == _folder(self._options.name):
            data = data or _folder(name)
        changed = given | {"name": name, "data": data}
        self._options = replace(self._options, **{field: value for field, value in changed.items() if value})

    def action(
        self, name: str, *, effect: EffectClass | str = EffectClass.UNSAFE, verify: Look | None = None
    ) -> Callable[[F], F]:
        """Makes a function an action, such as `x.calculator.add`.

        `effect` says what a second try may do: `idempotent` when twice is once, `verifiable` when `verify` can
        tell whether it happened, else `unsafe`. A task that says less than this is not done; what happens after a
        failure goes by what the task says.

        An `async def` stands still at its next `await` when it may not be this agent's any more. A `def` runs in a
        thread, which nobody can stop: unless twice is once, it calls `cpa.agents.checkpoint()` right before what it
        does.
        """
        told = EffectClass(effect)
        if told is EffectClass.VERIFIABLE and verify is None:
            raise BadInput(
                f"{name} says that its effect can be verified, and not how",
                field="verify",
                remedy="give verify=, a function that takes the request and returns a Verification",
            )

        def bind(function: F) -> F:
            self._functions.add(name, function, told, verify)
            return function

        return bind

    def add(self, executor: BaseExecutor) -> None:
        """Perform this executor's actions too. It becomes the agent's, which closes it at the end."""
        self._others.append(executor)

    def run(self) -> None:
        """Register and work until SIGTERM or SIGINT. Ends the process with an explanation and exit code 1 when the
        scheduler does not want this agent, or something it needs is missing."""
        configure(os.environ.get("CPA_LOG_LEVEL", "INFO"))
        try:
            run(self.serve())
        except CPAError as error:
            sys.exit(f"{self._options.name}: {error}")

    async def serve(self) -> None:
        """As `run`, in an event loop and without logging set up; raises what `run` explains."""
        executors = ExecutorRegistry(self._executors(), agent=self._options.name)
        try:
            session = Session(
                self._options,
                executors,
                SystemClock(),
                readiness=self._readiness,
                refuses=self._refuses,
                ready=_ready,
            )
            with ended_by_signals(session.stop):
                await session.run()
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        finally:
            await executors.close()
            if self._artifacts is not None:
                await self._artifacts.close()

    def _own_key(self) -> str:
        identity = known(self.data)
        return identity.key if identity is not None else ""

    def _executors(self) -> list[BaseExecutor]:
        own: list[BaseExecutor] = [self._functions] if self._functions.actions else []
        if not own and not self._others:
            raise BadInput(
                "the agent has no action",
                field="action",
                remedy="decorate a function with @agent.action, or add an executor",
            )
        return [*own, *self._others]


def _folder(name: str) -> Path:
    return Path(f"{name}-agent")


def _ready(line: str) -> None:
    sys.stdout.write(f"ready: {line}\n")
    sys.stdout.flush()
