"""What waits for a person, and the person's answer: `cpa approvals`, `cpa questions`, `cpa answer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpa.cli.call import CONNECT, Json, dump, job_id, part, server, words
from cpa.errors import BadInput, Conflict, InvalidDocument, NotFound

if TYPE_CHECKING:
    from cpa.cli.client import Client
    from cpa.core.forms import FormField

app = typer.Typer()

YES, NO = ("yes", "ja"), ("no", "nein")
TRUE, FALSE = (*YES, "true", "wahr"), (*NO, "false", "falsch")
_PAGE = 200
_DIGITS = 8
"""Of a digest, at least."""
_WORKS = {
    "number": ("is no number", "write one as 119,50 or 119.50"),
    "flag": ("is neither yes nor no", "say yes or no, or ja or nein"),
    "date": ("is no day", "write one as 24.12.2026 or 2026-12-24"),
    "choice": ("is no choice", "choose one of {}"),
}
"""By kind, what a value is not, and the ways to write one here."""


class SeveralQuestions(BadInput):
    """A job was named where one of its open questions is meant; `problems` lists all with what answers them."""

    def __init__(self, job: str, found: Sequence[Mapping[str, Any]]) -> None:
        from cpa.cli.asking import answers

        said = f"{len(found)} questions of this job are open"
        super().__init__(said, field="question", value=job, remedy="name one of them")
        each = (f"{one['task']} ({one['kind']}): {' | '.join(answers(one))}" for one in found)
        self.problems = (f"{said}; answer one of them:", *each)


@app.command(
    epilog="\b\nExamples:\n  cpa approvals\n  cpa approvals --json | jq -r '.questions[].id'\n\n" + CONNECT
)
def approvals(as_json: Json = False) -> None:
    """What must be allowed before it is done. The exact action, who said yes, who may, until when."""
    _list(("approval", "proposal"), as_json, "nothing waits for an approval")


@app.command(epilog="\b\nExamples:\n  cpa questions\n  cpa answer last.3.1 yes\n\n" + CONNECT)
def questions(as_json: Json = False) -> None:
    """What waits for a person. Approvals: may it be done? Forms: what is asked? Doubts: did it happen?"""
    _list((), as_json, "nothing waits for a person")


@app.command(
    "answer",
    epilog="\b\nExamples:\n  cpa answer last yes             the one question of the job\n"
    "  cpa answer last.3.1 yes --digest 4f0b6c9a2d1e\n"
    '  cpa answer last.3.1 no --note "the recipient is wrong"\n'
    "  cpa answer last.0.0 amount=119.50 way=Post note=\n\n"
    "For an approval yes means: do it; for a doubt: it happened. A question with a form takes field=value for "
    "each field, or the text alone where it asks for nothing else; no means: I will not say. Who asked for a job, "
    "or corrected it, cannot allow its tasks.\n\n" + CONNECT,
)
def answer_question(
    question: Annotated[
        str,
        typer.Argument(
            metavar="QUESTION", help="Id as `cpa questions` lists it; of a job with one open, the job."
        ),
    ],
    said: Annotated[list[str], typer.Argument(metavar="yes|no|FIELD=VALUE…", help="The answer.")],
    digest: Annotated[
        str, typer.Option(help="Count only for the action with this digest, or its first 8 digits or more.")
    ] = "",
    note: Annotated[str, typer.Option(help="Why; shown with a no, and kept in the audit trail.")] = "",
) -> None:
    """Answer an open question. A yes is for exactly the action that is shown, and for no other."""
    spoken = [words(each) for each in said]
    with server() as api:
        job, dot, rest = question.partition(".")
        job = job_id(api, job)
        rest = rest if dot else _only(api, job).removeprefix(f"{job}.")
        where = f"/questions/{part(f'{job}.{rest}')}"
        asked = _asked(api, where)
        body = _decided(spoken, asked) if len(spoken) == 1 and decision(spoken[0]) is not None else None
        if body is None:
            # A closed one too: an answer whose response got lost may be said again.
            form = asked or _closed(api, job, rest)
            if form is None:
                raise NotFound(
                    "this question is not open",
                    field="question",
                    value=question,
                    remedy="`cpa questions` lists all",
                )
            body = {"answer": filled(form, spoken)}
        if digest or asked is not None:
            body["digest"] = chosen_digest(asked, words(digest).lower())
        answered = api.post(where, body | {"note": words(note)})
        typer.echo(_told(answered, asked, spoken) + _repeated(api, asked, body))


def _only(api: Client, job: str) -> str:
    """The id of the one question that is open in a job; of several, or none, an error says which and what answers
    them."""
    found = api.get(f"/jobs/{part(job)}")["questions"]
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise NotFound(
            "nothing in this job waits for a person",
            field="question",
            value=job,
            remedy=f"`cpa explain {job}` says what it waits for",
        )
    raise SeveralQuestions(job, found)


def decision(word: str) -> bool | None:
    """Yes or no, in English or German; None for anything else."""
    plain = word.strip().lower()
    return True if plain in YES else False if plain in NO else None


def filled(asked: Mapping[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """`field=value` words as the values that the form asks for; `WrongAnswer` names all that are none."""
    from cpa.core.forms import WrongAnswer, check, fields

    form = asked.get("form")
    if not form:
        meant = "yes, it happened; or no, it did not" if asked["kind"] == "doubt" else "yes or no"
        raise BadInput(
            f"this {asked['kind']} is answered with yes or no, not with {' '.join(said)!r}",
            field="answer",
            value=" ".join(said),
            remedy=f"say {meant}",
        )
    kinds, values, wrong = fields(form), dict[str, Any](), dict[str | None, InvalidDocument]()
    if [kind.type for kind in kinds.values()] == ["text"] and not any("=" in word for word in said):
        said = [f"{next(iter(kinds))}={' '.join(said)}"]  # Nothing else can be meant.
    for word in said:
        name, given, value = word.partition("=")
        if not given:
            wanted = " ".join(f"{each}=…" for each in kinds)
            raise BadInput(
                "this question has a form", field="answer", value=word, remedy=f"say {wanted}; or no"
            )
        name = name.strip()
        field = kinds.get(name)
        values[name] = typed(field.type, value, field.choices) if field else value
        if field and (problem := _wrong(field, value.strip(), values[name], f"answer.{name}")):
            wrong[problem.field] = problem
    try:
        check(form, values)
    except WrongAnswer as error:
        # It finds the same and more, in words for programs.
        error.problems = tuple(wrong.get(each.field, each) for each in error.problems)
        error.message, error.field = error.problems[0].message, error.problems[0].field
        error.remedy = error.problems[0].remedy
        raise
    return values


def _wrong(field: FormField, said: str, value: Any, where: str) -> InvalidDocument | None:
    """What is wrong with what somebody typed for a field; None where nothing is, and for nothing typed."""
    from cpa.core.numbers import in_doubt
    from cpa.core.slots import iso_date

    read = {
        "number": not isinstance(value, str),
        "flag": isinstance(value, bool),
        "date": iso_date(said) is not None,
        "choice": value in field.choices,
    }
    if not said or read.get(field.type, True):
        return None
    if field.type == "number" and (doubt := in_doubt(said, where)):
        return InvalidDocument(doubt.message, field=where, value=said, remedy=doubt.remedy)
    what, works = _WORKS[field.type]
    remedy = works.format(", ".join(field.choices))
    return InvalidDocument(f"{said!r} {what}", field=where, value=said, remedy=remedy)


def typed(kind: str, text: str, choices: Sequence[str] = ()) -> Any:
    """What somebody typed as a value of this kind; as it is where it is none, which the check then says."""
    from cpa.core.numbers import number
    from cpa.core.slots import iso_date

    plain = text.strip()
    if kind == "flag":
        return True if plain.lower() in TRUE else False if plain.lower() in FALSE else text
    if kind == "date":
        return iso_date(plain) or text
    if kind == "number":
        found = number(plain)
        return text if found is None else found
    if kind == "choice" and plain not in choices:
        alike = [each for each in choices if each.casefold() == plain.casefold()]
        return alike[0] if len(alike) == 1 else text
    return plain if kind == "choice" else text


def _list(kinds: Sequence[str], as_json: bool, nothing: str) -> None:
    from cpa.cli import asking, terminal

    found: list[Any] = []
    with server() as api:
        after = ""
        while True:
            page = api.get("/questions", limit=_PAGE, after=after)
            found += [each for each in page["questions"] if not kinds or each["kind"] in kinds]
            after = page["next"] or ""
            if not after:
                break
    if as_json:
        dump({"questions": found})
    elif found:
        asking.show(sorted(found, key=lambda each: not each.get("yours")), listed=True)
    else:
        terminal.line(nothing)


def _asked(api: Client, where: str) -> dict[str, Any] | None:
    """The question while it is open. What became of one that is not, the answer to it will say."""
    try:
        found: dict[str, Any] = api.get(where)
    except NotFound:
        return None
    return found


def _closed(api: Client, job: str, rest: str) -> dict[str, Any] | None:
    """What a question with a form asked for; None where it was no such question."""
    from cpa.core.people import form_of

    index = rest.partition(".")[0]
    for task in api.get(f"/jobs/{part(job)}")["tasks"]:
        if str(task["index"]) == index and task["action"] == "person.ask":
            return {"kind": "input", "form": form_of(task["arguments"])}
    return None


def _decided(said: Sequence[str], asked: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Yes or no, unless a form wants more than a yes."""
    yes = decision(said[0])
    if yes and asked is not None and asked.get("form"):
        return None
    return {"yes": yes}


def chosen_digest(asked: Mapping[str, Any] | None, given: str) -> str:
    """The whole digest of what is asked about, if that begins as given."""
    shown = str(asked["digest"]) if asked is not None else given
    if given and len(given) < _DIGITS:
        raise BadInput(
            f"{given!r} is too short",
            field="digest",
            value=given,
            remedy=f"give its first {_DIGITS} digits or more, as `cpa approvals` shows them",
        )
    if given and not shown.startswith(given):
        raise Conflict(
            "what would be done is not the action with this digest",
            field="digest",
            value=given,
            remedy="look at it again with `cpa approvals`, which shows the digest",
        )
    return shown if len(shown) in (0, 64) else ""


def _repeated(api: Client, asked: Mapping[str, Any] | None, body: Mapping[str, Any]) -> str:
    """What follows from a no to a doubt, where the task has tries left and the run is not ending."""
    if asked is None or asked["kind"] != "doubt" or body.get("yes") is not False:
        return ""
    tasks = api.get(f"/jobs/{part(asked['job'])}")["tasks"]
    over = any(task["id"] == asked["task"] and task["status"] in ("failed", "cancelled") for task in tasks)
    return "" if over else f": it is done again; `cpa cancel {asked['job']}` ends the job instead"


def _told(answered: Mapping[str, Any], asked: Mapping[str, Any] | None, said: Sequence[str]) -> str:
    counted = f"{len(answered['given'])} of {answered['needed']} said yes ({', '.join(answered['given'])})"
    if not answered["changed"]:
        return "you had said so before; nothing changed" + (f": {counted}" if answered["open"] else "")
    if asked is not None and asked.get("form"):
        return "answered" if decision(said[0]) is None else "answered: you will not say"
    word = "yes" if decision(said[0]) else "no"
    what = f" to {asked['action']} of task {asked['task']}" if asked is not None else ""
    return f"answered {word}{what}" + (f": {counted}" if answered["open"] else "")
