"""What a terminal shows: tables, a task graph that moves, plain lines where nobody looks.

Everything here renders the JSON values of the API. Colours and boxes appear only on a terminal; piped output
is plain lines. Signs that the terminal's encoding lacks become ASCII.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

COLOURS = {
    "done": "green",
    "succeeded": "green",
    "running": "cyan",
    "proving": "cyan",
    "assigned": "cyan",
    "ready": "blue",
    "pending": "blue",
    "held": "yellow",
    "in_doubt": "magenta",
    "failed": "red",
    "cancelled": "bright_black",
    "skipped": "bright_black",
    "waiting": "bright_black",
    "not reached": "bright_black",
    "online": "green",
    "busy": "cyan",
    "offline": "red",
    "draining": "yellow",
    "quarantined": "magenta",
}
SIGNS = {
    "done": "✔",
    "running": "▶",
    "proving": "▶",
    "assigned": "▷",
    "ready": "○",
    "pending": "○",
    "held": "‖",
    "in_doubt": "?",
    "failed": "✘",
    "cancelled": "–",
    "skipped": "↷",
    "waiting": "·",
}
PLAIN_SIGNS = {
    "done": "+",
    "running": ">",
    "proving": ">",
    "assigned": ">",
    "held": "=",
    "in_doubt": "?",
    "failed": "x",
    "cancelled": "-",
    "skipped": "-",
}


AT_WORK = ("assigned", "running")
"""Statuses of a task of which an attempt is under way: what its error tells is what became of an earlier one."""
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
"""As the server writes one into a sentence."""
_COPIED = frozenset(("job", "id", "time", "status", "state"))
"""Columns of a table that stay on one line."""


def console(*, error: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=not sys.stdout.isatty())


def word(task: Mapping[str, Any]) -> str:
    """A task's status for people: what is only being looked at again is in no doubt."""
    return (
        "proving" if (task["status"], task.get("reason")) == ("in_doubt", "proving") else str(task["status"])
    )


def sign(status: str) -> str:
    """One character for a status, in the signs the terminal has."""
    wanted = SIGNS.get(status, "·")
    try:
        wanted.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return PLAIN_SIGNS.get(status, ".")
    return wanted


def clock(stamp: str | None) -> str:
    """A stamp of the API as local time; on a terminal without the date when that is today's."""
    if not stamp:
        return "-"
    local = datetime.fromisoformat(stamp).astimezone()
    brief = sys.stdout.isatty() and local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if brief else "%Y-%m-%d %H:%M:%S")


def harmless(text: str) -> str:
    """Text from elsewhere, without what would make a terminal act or show it in another order."""
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)


def flat(text: str) -> str:
    """The same in one line, so that no word from elsewhere looks like a line of ours."""
    return " ".join(harmless(str(text)).split())


def shorten(text: str, limit: int = 60) -> str:
    """One line of at most `limit` characters."""
    line = flat(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Aligned columns; without a terminal tab-separated lines with a heading, for cut and grep. What one copies is
    never broken over two lines."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            sys.stdout.write("\t".join(map(flat, row)) + "\n")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=column in _COPIED)
    for row in rows:
        shown.add_row(*(Text(flat(str(cell)), style=COLOURS.get(str(cell), "")) for cell in row))
    console().print(shown)


def jobs(page: Mapping[str, Any]) -> None:
    rows = [
        (
            job["id"],
            job["status"],
            clock(job["created_at"]),
            job["intent"] or "-",
            shorten(job["description"]),
        )
        for job in page["jobs"]
    ]
    columns = ("job", "status", "created", "intent", "request")
    if sys.stdout.isatty():  # The intent finds no room beside ids and the request.
        table((*columns[:3], columns[4]), [(*row[:3], row[4] or row[3]) for row in rows])
    else:
        table(columns, rows)
    shown = len(rows)
    if page["total"] > shown:
        sys.stderr.write(f"{shown} of {page['total']} jobs; see more with --limit and --offset\n")


def graph(detail: Mapping[str, Any], reasons: Mapping[str, str] = MappingProxyType({})) -> RenderableType:
    """The job's tasks in the plan's order, each below what it depends on, with its state and what it says.
    `reasons` say, by task, why one waits."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = detail["job"]
    status = f"{head['status']}{_besides(detail)}"
    title = Text(f"{sign(head['status'])} {status}", style=f"bold {COLOURS.get(head['status'], '')}")
    title.append(f"  {head['id']}  ", style="default")
    title.append(shorten(head["description"] or head["intent"], 90), style="italic")
    rows = Table.grid(padding=(0, 2), expand=True)
    for _ in range(3):
        rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)  # a failure is told whole below
    over = head["status"] in ("done", "failed", "cancelled")
    depth: dict[str, int] = {}
    for task in detail["tasks"]:
        depth[task["id"]] = 1 + max((depth.get(need, 0) for need in task["depends_on"]), default=0)
        unproved = task["id"] in detail.get("unproved", ())
        told_as = "not reached" if over and task["status"] == "waiting" else word(task)
        shown = f"{sign(told_as)} {told_as}{', unproved' if unproved else ''}"
        state = Text(shown, style="yellow" if unproved else COLOURS.get(told_as, ""))
        name = Text("  " * min(depth[task["id"]], 8) + flat(task["id"]))
        action, note = Text(flat(task["action"])), flat(_note(task, reasons.get(task["id"], "")))
        rows.add_row(name, action, state, Text(note, style="bright_black"))
    return Group(title, rows)


def _besides(detail: Mapping[str, Any]) -> str:
    """What the status of a job leaves out."""
    cause = detail["job"].get("ending")
    ending = ", being cancelled" if cause == "cancel" else f", ending ({flat(cause)})" if cause else ""
    return ending + (", unproved" if detail.get("unproved") else "")


def progress(said: Mapping[str, Any]) -> str:
    """How far a running task says it is, in one line."""
    return flat(f"{said['share']:.0%} {said['message']}")


def again(task: Mapping[str, Any]) -> str:
    """After what an attempt that is under way is made once more; empty for a first one."""
    failure = task.get("error")
    return f"again, after {failure['code']}" if failure else ""


def _note(task: Mapping[str, Any], reason: str = "") -> str:
    """The one thing worth knowing about a task now."""
    if reason and task["status"] in ("ready", "held", "assigned"):
        return shorten(reason)
    failure = task.get("error")
    if task["status"] in AT_WORK:
        return shorten(progress(task["progress"]) if task.get("progress") else again(task))
    if failure:
        return shorten(f"{failure['code']}: {failure['message']}")
    if word(task) == "proving":
        return "looking for the effect at the target"
    if task["status"] in ("held", "in_doubt", "skipped") and task.get("reason"):
        return str(task["reason"])
    return ""


def title(job: Mapping[str, Any]) -> None:
    """Which job it is, in a line."""
    line(f"{job['id']}  {shorten(job['description'] or job['intent'], 90)}".rstrip())


def start(answer: Mapping[str, Any]) -> str | None:
    """When a job is to start, by its explanation; None where that is not known, or it has started."""
    return next((entry["starts"] for entry in answer["tasks"] if entry["reason"] == "job_pending"), None)


def explanations(answer: Mapping[str, Any]) -> None:
    """Why a job stands where it stands: each task that is not done, with reason, evidence, remedy, actor."""
    found = answer["tasks"]
    if (why := answer.get("hindrance")) is not None:
        line(f"the whole job waits: {flat(why['evidence'])}")
        line(f"    remedy:   {flat(why['remedy'])}")
    if not found:
        line(f"the job is {answer['status']}: nothing is open")
    if pending := next((entry for entry in found if entry["reason"] == "job_pending"), None):
        # The same holds for each of its tasks.
        job = pending | {"task": "the job", "status": "pending"}
        found = [job, *(entry for entry in found if entry["reason"] != "job_pending")]
    for entry in found:
        reason = f": {entry['reason']}" if entry["reason"] != entry["status"] else ""
        line(f"{sign(entry['status'])} {entry['task']} is {entry['status']}{reason}")
        for name in ("evidence", "remedy", "actor"):
            if entry.get(name):
                line(f"    {name + ':':10}{_MOMENT.sub(lambda found: clock(found[0]), flat(entry[name]))}")


def keys(found: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (key["id"], key["name"], key["scopes"], clock(key["created"]), clock(key["expires"]), key["state"])
        for key in found
    ]
    table(("id", "name", "scopes", "created", "expires", "state"), rows)


def tokens(found: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            token["id"],
            token["agent"] or "any",
            str(token["uses"]),
            clock(token["created"]),
            clock(token["expires"]),
            token["state"],
        )
        for token in found
    ]
    table(("id", "agent", "uses left", "created", "expires", "state"), rows)


def agents(page: Mapping[str, Any]) -> None:
    rows = [
        (
            agent["name"],
            agent["type"],
            agent["status"] if agent["state"] == "active" else agent["state"],
            f"{agent['busy']}/{agent['slots']}",
            _seen(agent),
            shorten(", ".join(agent["actions"] + agent["tags"])),
            agent["id"] or "-",
        )
        for agent in page["agents"]
    ]
    columns = ("agent", "type", "state", "busy", "seen", "does", "id")
    if sys.stdout.isatty():  # The name does for the id, which `show` tells, and leaves room for what it does.
        table(columns[:-1], [row[:-1] for row in rows])
    else:
        table(columns, rows)
    if page["total"] > len(rows):
        sys.stderr.write(f"{len(rows)} of {page['total']} agents; see more with --limit and --offset\n")


def agent(detail: Mapping[str, Any]) -> None:
    """How one agent stands; of the part of the server itself, what the list says of it."""
    line(f"{detail['address']}  {detail['id'] or 'a part of the server itself'}")
    about = {
        "state": f"{detail['state']}, {detail['status']}",
        "busy": f"{detail['busy']} of {detail['slots']}, load {detail['load']:.0%}",
        "does": ", ".join(detail["actions"]),
        "tags": ", ".join(detail["tags"]),
        "not": _withheld(detail),
        "trouble": detail["trouble"],
    }
    if detail["id"]:
        about["state"] += f", seen {_seen(detail)}"
        about |= {
            "at": detail["endpoint"] or "a channel of its own",
            "since": clock(detail["registered_at"]),
            "says": ", ".join(f"{name}: {told(value)}" for name, value in detail["readiness"].items()),
            "about": ", ".join(f"{name}: {value}" for name, value in detail["metadata"].items()),
        }
    for name, value in about.items():
        if value:
            line(f"    {name + ':':9}{flat(value)}")
    for each in detail.get("running", ()):
        lease = f"lease {each['lease_remaining']:.0f} s"
        line(f"    runs:    {each['job']}/{each['task']}, epoch {each['epoch']}, {lease}")
    for action, weight in detail.get("weights", {}).items():
        line(f"    {action}: counts {weight:.0%} when an agent is chosen, for what failed lately")
    for family, circuit in detail.get("breakers", {}).items():
        line(f"    {family}.*: {circuit['failures']} failures in a row, circuit {circuit['state']}")


def _withheld(detail: Mapping[str, Any]) -> str:
    """What an agent offers and may not do, and what lets it."""
    if not (actions := ", ".join(detail.get("withheld", ()))):
        return ""
    return (
        f"{actions}: for that it was not enrolled (`cpa agents token --name {detail['name']}`, then --token)"
    )


_UNITS = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min"))
"""From how many seconds on they are told in a larger unit, how many it has, and its name."""


def _seen(agent: Mapping[str, Any]) -> str:
    """When an agent was last heard of; what the server heard before its last start, it does not know."""
    if (seconds := agent["last_seen"]) is None:
        return "-" if not agent["id"] or agent["state"] == "revoked" else "not since the start"
    for least, size, unit in _UNITS:
        if seconds >= least:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def told(value: Any) -> str:
    """A value in words where it is text, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def event(entry: Mapping[str, Any]) -> str:
    """One event as a line."""
    return f"{clock(entry['time'])}  {entry['seq']:>4}  {flat(entry['summary'])}"


def line(text: str) -> None:
    """One line: a break in it, as in a name from elsewhere, begins none."""
    sys.stdout.write(harmless(text).replace("\n", " ") + "\n")
    sys.stdout.flush()


def remedy(failure: Mapping[str, Any]) -> str:
    return f" ({failure['remedy']})" if failure.get("remedy") else ""
