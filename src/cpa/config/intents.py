"""`intents.yaml`: reading it, and checking it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cpa.config.loading import ConfigError, Document, Problem, load_file, load_text, validate
from cpa.core.folding import fold
from cpa.core.intent_router import IntentRouter
from cpa.core.intents import (
    Intent,
    IntentDefinition,
    Keywords,
    Reason,
    Vocabulary,
)
from cpa.core.lexicon import Lexicon
from cpa.core.verbs import COMMON, Form
from cpa.errors import CPAError

SHIPPED = "intents.yaml"
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


class _Named(IntentDefinition):
    """An intent under its name."""

    name: str = ""


class _File(BaseModel):
    """The file as written: names are keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    words: dict[str, tuple[Annotated[str, StringConstraints(min_length=1, max_length=80)], ...]] = {}
    verbs: dict[str, dict[Form, tuple[str, ...]]] = {}
    intents: dict[str, _Named] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IntentFile:
    """A file's intents and words."""

    definitions: tuple[IntentDefinition, ...]
    vocabulary: Vocabulary
    document: Document

    def problem(self, path: Sequence[str | int], message: str, remedy: str = "") -> Problem:
        """A problem at this place of the file; more than one intent may have it."""
        return self.document.problem(tuple(path), message, remedy)


@dataclass(frozen=True, slots=True)
class Report:
    """What `cpa intents check` shows."""

    file: str
    problems: tuple[Problem, ...] = ()
    intents: tuple[str, ...] = ()
    examples: int = 0
    """Sentences tried, examples and not_examples."""

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        if self.ok:
            known = f"{len(self.intents)} intent{'' if len(self.intents) == 1 else 's'}"
            return f"{self.file}: {known}, {self.examples} sentences tried, all as expected"
        return "\n".join(str(problem) for problem in self.problems)


def load_shipped() -> IntentFile:
    """The intents that come with CPA."""
    text = files("cpa.config").joinpath(SHIPPED).read_text("utf-8")
    return _read(load_text(text, SHIPPED, ours=True))


def load_intents(path: Path) -> IntentFile:
    """One file. Raises `ConfigError` naming lines, `NotFound`, `BadInput`, `TooLarge`."""
    return _read(load_file(path))


def router_of(sources: Sequence[IntentFile]) -> IntentRouter:
    """One router over several files. A later file's intent replaces an earlier one of the same name, and its
    word groups are added to the earlier ones. Its intents come first where some are shown as examples: what people
    have written themselves is more likely meant than what CPA brings along."""
    definitions: dict[str, IntentDefinition] = {}
    words: dict[str, tuple[str, ...]] = {}
    verbs: dict[str, dict[Any, tuple[str, ...]]] = {}
    for source in sources:
        own = {definition.name: definition for definition in source.definitions}
        definitions = own | {name: known for name, known in definitions.items() if name not in own}
        for name, listed in source.vocabulary.words.items():
            words[name] = (*words.get(name, ()), *listed)
        for name, forms in source.vocabulary.verbs.items():
            merged = verbs.setdefault(name, {})
            for form, listed in forms.items():
                merged[form] = (*merged.get(form, ()), *listed)
    return IntentRouter(definitions.values(), Vocabulary(words=words, verbs=verbs))


def check_file(path: Path) -> Report:
    """Read the file and try every example. Never raises for what is wrong in the file; `NotFound` for none."""
    try:
        source = load_intents(path)
    except ConfigError as error:
        return Report(str(path), error.problems)
    return check(source)


def check(source: IntentFile) -> Report:
    """Whether every example becomes its intent, complete, and no not_example does."""
    try:
        router = router_of([source])
    except CPAError as error:
        problem = source.document.problem(("intents",), error.message, error.remedy or "")
        return Report(source.document.file, (problem,))
    problems: list[Problem] = []
    tried = 0
    for definition in source.definitions:
        place = ("intents", definition.name)
        for number, example in enumerate(definition.examples):
            tried += 1
            said = _wrong_example(router, definition, example)
            if said:
                problems.append(source.document.problem((*place, "examples", number), *said))
        for number, example in enumerate(definition.not_examples):
            tried += 1
            if _route(router, example).name == definition.name:
                message = f"{example!r} becomes {definition.name}, and must not"
                problems.append(
                    source.document.problem(
                        (*place, "not_examples", number), message, "Make the patterns narrower."
                    )
                )
    names = tuple(definition.name for definition in source.definitions)
    return Report(source.document.file, tuple(problems), names, tried)


def _read(document: Document) -> IntentFile:
    parsed = validate(document, _File)
    vocabulary = Vocabulary.model_construct(words=parsed.words, verbs=parsed.verbs)
    definitions = tuple(
        definition.model_copy(update={"name": name}) for name, definition in parsed.intents.items()
    )
    lexicon = Lexicon(vocabulary.words, vocabulary.verbs)
    problems = [
        p
        for name, definition in parsed.intents.items()
        for p in _loose_ends(document, name, definition, lexicon)
    ]
    if not definitions:
        problems.append(document.problem(("intents",), "holds no intent", "Add one under `intents:`."))
    if problems:
        raise ConfigError(problems)
    return IntentFile(definitions, vocabulary, document)


def _loose_ends(
    document: Document, name: str, definition: IntentDefinition, lexicon: Lexicon
) -> list[Problem]:
    """Names that do not fit, references to arguments that do not exist."""
    from cpa.core.references import references

    problems: list[Problem] = []
    place = ("intents", name)
    if not _NAME.fullmatch(name) or name == "unknown":
        problems.append(
            document.problem(
                place,
                f"{name!r} is no name for an intent",
                "Write it like mail.send: lower case letters, digits, _ and dots.",
            )
        )
    for number, pattern in enumerate(definition.patterns):
        if isinstance(pattern.keywords, Keywords):
            problems += _empty_words(
                document, (*place, "patterns", number, "keywords"), pattern.keywords, lexicon
            )
    tasks = definition.tasks.items() if isinstance(definition.tasks, dict) else enumerate(definition.tasks)
    for key, task in tasks:
        at = (*place, "tasks", key)
        try:
            used = [r for r in references(task) if r.root == "arguments"]
        except CPAError as error:
            problems.append(document.problem(at, error.message, error.remedy or ""))
            continue
        named = [str(r.path[0]) for r in used]
        named += [str(n) for word in ("given", "not_given") for n in _listed(task.get(word))]
        for argument in named:
            if argument not in definition.arguments:
                known = ", ".join(definition.arguments) or "none"
                problems.append(
                    document.problem(at, f"there is no argument {argument!r}", f"Declared are: {known}.")
                )
    return problems


def _empty_words(
    document: Document, place: tuple[str | int, ...], keywords: Keywords, lexicon: Lexicon
) -> list[Problem]:
    """A name that no word can ever satisfy, such as a group with a typing error in its name."""
    import difflib

    known = sorted(lexicon.names() - set(COMMON))
    problems = []
    named = [(key, word) for key in ("all", "any", "may", "not_") for word in getattr(keywords, key)]
    for place_key, word in named:
        if " " not in word.strip():
            continue
        name = fold(word).replace(" ", "_").replace("-", "_")
        group = "" if name in lexicon.names() else f"Add words: {{{name}: [{word}]}} at the top. "
        said = f"{word!r} is more than one word, which only a group can hold"
        problems.append(document.problem((*place, place_key.strip("_")), said, f"{group}Write {name}."))
    for word in (word for word in keywords.all if word not in lexicon.verbs):
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.85)
        if word not in known and close:
            problems.append(
                document.problem(
                    (*place, "all"), f"{word!r} is no group of words", f"Did you mean {close[0]}?"
                )
            )
    return problems


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _wrong_example(
    router: IntentRouter, definition: IntentDefinition, example: str
) -> tuple[str, str] | None:
    intent = _route(router, example)
    if intent.name != definition.name:
        why = ": ".join(
            part for part in (intent.reason.value if intent.reason else "", intent.detail) if part
        )
        return (f"{example!r} becomes {intent.name} ({why})", _mending(intent))
    if intent.missing:
        return (
            f"{example!r} leaves open: {', '.join(intent.missing)}",
            "Name every required argument in the example.",
        )
    return None


def _mending(intent: Intent) -> str:
    """What the author of a pattern can do about an example that became something else."""
    if intent.reason is Reason.UNKNOWN_VERB:
        verb = fold(intent.detail)
        entry = f"verbs: {{{verb}: {{order: [{verb}]}}}}"
        return f"Make it a verb, at the top of the file: {entry}, and name it in a pattern."
    if intent.reason is Reason.NOT_UNDERSTOOD and intent.detail:
        return f"Name {intent.detail} in the pattern's `may`, or in a group under `words:`."
    return "Add a pattern or words, or move the example."


def _route(router: IntentRouter, text: str) -> Intent:
    return router.route(text)
