"""What the demo shows while a job runs: its task graph, drawn anew on a terminal, told in lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_LOOKS = {
    "waiting": ("·", "bright_black"),
    "ready": ("○", "blue"),
    "assigned": ("▷", "cyan"),
    "running": ("▶", "cyan"),
    "proving": ("▶", "cyan"),
    "held": ("‖", "yellow"),
    "in_doubt": ("?", "magenta"),
    "done": ("✔", "green"),
    "failed": ("✘", "red"),
    "skipped": ("↷", "bright_black"),
    "cancelled": ("–", "bright_black"),
}
_BUSY = ("assigned", "running", "proving")
_ASCII = {"✔": "+", "✘": "x", "▶": ">", "▷": ">", "○": "o", "·": ".", "‖": "=", "↷": "-", "–": "-"}
_BEGIN = ("agent_chosen", "task_started")
_END = ("task_succeeded", "task_failed", "task_verified")


class Progress:
    """Shows one job. Give it the job's detail and the new events after each change; the last call draws the
    end. On a terminal it redraws in place, else each task's change is one line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._detail: Mapping[str, Any] = {"tasks": []}
        self._begun: dict[str, datetime] = {}
        self._took: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.graph, console=self._console, refresh_per_second=12, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._console.print(self.graph(), soft_wrap=False)

    def update(self, detail: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
        detail = {**detail, "tasks": [_read(task) for task in detail["tasks"]]}
        self._detail = detail
        for event in events:
            self._time(event)
        if self._live is None:
            for task in detail["tasks"]:
                self._tell(task)

    def graph(self) -> RenderableType:
        """The tasks in the plan's order, each with its state and how long it took."""
        rows = Table.grid(padding=(0, 2))
        before = ""
        for task in self._detail["tasks"]:
            rows.add_row(
                self._sign(task["status"]),
                Text(task["id"], style="bold"),
                Text(task["action"], style="cyan"),
                Text(task["status"], style=_LOOKS.get(task["status"], ("", ""))[1]),
                Text(self._duration(task), justify="right"),
                Text(_note(task, before), style="bright_black", overflow="ellipsis", no_wrap=True),
            )
            before = task["id"]
        return Padding(rows, (0, 0, 0, 2))

    def _sign(self, status: str) -> RenderableType:
        sign, colour = _LOOKS.get(status, ("·", ""))
        if status in _BUSY and self._live is not None and self._live.is_started and not self._ascii:
            return Spinner("dots", style=colour)
        return Text(self.sign(sign), style=colour)

    @property
    def _ascii(self) -> bool:
        return "utf" not in self._console.encoding.lower()

    def sign(self, sign: str) -> str:
        """A sign this terminal can show."""
        return _ASCII.get(sign, sign) if self._ascii else sign

    def _time(self, event: Mapping[str, Any]) -> None:
        task, moment = event.get("task"), datetime.fromisoformat(event["time"])
        if task is None:
            return
        if event["type"] in _BEGIN:
            self._begun[task] = moment
            self._took.pop(task, None)
        elif event["type"] in _END and task in self._begun:
            self._took[task] = (moment - self._begun[task]).total_seconds()

    def _duration(self, task: Mapping[str, Any]) -> str:
        name = task["id"]
        if name in self._took:
            return f"{self._took[name]:.2f} s"
        if task["status"] in _BUSY and name in self._begun:
            return f"{max(0.0, (datetime.now(UTC) - self._begun[name]).total_seconds()):.1f} s"
        return ""

    def _tell(self, task: Mapping[str, Any]) -> None:
        status = task["status"]
        if self._told.get(task["id"]) == status or status in ("waiting", "ready", "assigned"):
            return
        self._told[task["id"]] = status
        sign, colour = _LOOKS.get(status, ("·", ""))
        line = Text("  ")
        line.append(f"{self.sign(sign)} ", style=colour)
        line.append(f"{task['id']:<18} ", style="bold")
        line.append(f"{task['action']:<14} ", style="cyan")
        line.append(f"{status:<9} ", style=colour)
        line.append(f"{self._duration(task):>7}  ")
        line.append(_note(task), style="bright_black")
        line.rstrip()
        self._console.print(line)


def _read(task: Mapping[str, Any]) -> Mapping[str, Any]:
    """The task with a word for people where it is done and its effect is being looked for."""
    proving = (task["status"], task.get("reason")) == ("in_doubt", "proving")
    return {**task, "status": "proving"} if proving else task


def _note(task: Mapping[str, Any], before: str = "") -> str:
    """The one thing worth knowing about a task now; `before` is the task shown above it."""
    error, result = task.get("error"), task.get("result") or {}
    if task["status"] in ("assigned", "running"):
        if said := task.get("progress"):
            return f"{said['share']:.0%} {said['message']}"
        return f"again, after {error['code']}" if error else ""
    if error:
        return f"{error['code']}: {error['message']}"
    if task["status"] == "proving":
        return "looking for the effect at the target"
    if task["status"] in ("held", "in_doubt", "skipped"):
        return str(task.get("reason") or "")
    file = result.get("file")
    if isinstance(file, dict):
        return f"{file.get('name', '')}, {file.get('size', 0):,} bytes"
    if result.get("message_id"):
        return f"accepted for {', '.join(result.get('accepted') or [])}"
    needs = [need for need in task["depends_on"] if need != before]
    return f"after {', '.join(needs)}" if needs and task["status"] == "waiting" else ""
