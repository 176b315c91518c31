"""What an intent is, as its author writes it, and what recognising one gives.

An `IntentDefinition` comes from `intents.yaml` (`cpa.config.intents` reads the file and names lines). Its patterns
say which requests it covers; its arguments say where in the words their values stand; its tasks are the template
that `orchestrator.planning` fills.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, model_validator

from cpa.core.classes import Source
from cpa.core.patterns import compile_pattern
from cpa.core.references import references
from cpa.core.verbs import Form
from cpa.errors import InvalidDocument

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=80)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=80)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Localised(_Model):
    """A text in both languages."""

    de: str
    en: str

    def in_(self, locale: str) -> str:
        return self.de if locale == "de" else self.en


class ArgumentType(StrEnum):
    TEXT = "text"
    EMAIL_LIST = "email_list"
    EMAIL = "email"
    DATE = "date"
    NUMBER = "number"
    CHOICE = "choice"
    URL = "url"


class Extent(StrEnum):
    """How far a text reaches."""

    NAME = "name"
    """A run of at most six words that mean nothing else here, or a quoted string."""
    PHRASE = "phrase"
    """Up to the next verb, address, condition or negation."""
    CONTENT = "content"
    """What follows "saying", "mit dem Text" or a colon: passed on, never read."""
    SUBJECT = "subject"
    """What follows "subject" or "Betreff"."""


class ArgumentDefinition(_Model):
    """One argument: what it is, where it stands, what to ask when it is missing."""

    type: ArgumentType = ArgumentType.TEXT
    extent: Extent = Extent.NAME
    after: tuple[Word, ...] = ()
    """Words or groups of words right before the value."""
    before: tuple[Word, ...] = ()
    """Words or groups of words right after the value (the English genitive `'s` is written "'s")."""
    choices: dict[str, tuple[Word, ...]] = {}
    """For `choice`: value and the words that mean it."""
    required: bool = False
    default: Any = None
    """A value, or one per language: `{de: …, en: …}`."""
    question: Localised | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ArgumentDefinition:
        if (self.type is ArgumentType.CHOICE) != bool(self.choices):
            raise ValueError("choices belong to type choice. Write type: choice with choices, or neither")
        if self.required and self.question is None:
            raise ValueError("a required argument needs a question. Add question: {de: …, en: …}")
        return self

    def fallback(self, locale: str) -> Any:
        if isinstance(self.default, dict) and set(self.default) == {"de", "en"}:
            return self.default[locale]
        return self.default


class Keywords(_Model):
    """Words in any order. A name is a word, or a group from `words` or of verbs; every word of the request must
    belong to one of `all`, `any`, `may`, to an argument, or be a mere particle."""

    all: tuple[Word, ...] = Field(min_length=1)
    any: tuple[Word, ...] = ()
    may: tuple[Word, ...] = ()
    not_: tuple[Word, ...] = Field(default=(), alias="not")


class Pattern(_Model):
    """Either a regular expression over the folded request, or keywords."""

    regex: str | None = None
    keywords: Keywords | None = None
    _compiled: re.Pattern[str] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _one_kind(self) -> Pattern:
        if (self.regex is None) == (self.keywords is None):
            raise ValueError("a pattern is either a regex or keywords. Keep one of the two")
        if self.regex is not None:
            self._compiled = compile_pattern(self.regex)
        return self

    @property
    def compiled(self) -> re.Pattern[str]:
        assert self._compiled is not None
        return self._compiled


class IntentDefinition(_Model):
    """One thing that can be asked for."""

    name: Name
    description: str
    patterns: tuple[Pattern, ...] = Field(min_length=1)
    examples: tuple[str, ...] = Field(min_length=1)
    not_examples: tuple[str, ...] = ()
    arguments: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")], ArgumentDefinition] = {}
    tasks: list[dict[str, Any]] | dict[str, dict[str, Any]] = Field(min_length=1)
    answer: Localised | None = None
    timeout: float | None = Field(default=None, gt=0)
    """Longest duration of a run, in seconds."""

    @model_validator(mode="after")
    def _groups_declared(self) -> IntentDefinition:
        for number, pattern in enumerate(self.patterns):
            if pattern.regex is None:
                continue
            for group in pattern.compiled.groupindex:
                if group not in self.arguments:
                    raise ValueError(
                        f"patterns[{number}].regex: group {group!r} is no argument. "
                        f"Declare it under arguments, or write (?:…)"
                    )
        return self

    @model_validator(mode="after")
    def _answer_fits(self) -> IntentDefinition:
        """What the answer refers to is there: an answer is for the end, too late for an error."""
        tasks = self.tasks
        if isinstance(tasks, list):
            tasks = {task.get("id") or f"task_{number}": task for number, task in enumerate(tasks)}
        for text in (self.answer.de, self.answer.en) if self.answer else ():
            try:
                known = references(text)
            except InvalidDocument as error:
                raise ValueError(f"answer: {error.message}. {error.remedy}") from error
            for found in known:
                if found.root == "tasks" and found.task not in tasks:
                    raise ValueError(f"answer: there is no task {found.task!r}. Name one of the plan's tasks")
                if found.root == "arguments" and str(found.path[0]) not in self.arguments:
                    raise ValueError(
                        f"answer: there is no argument {found.path[0]!r}. Declare it under arguments"
                    )
        return self


class Vocabulary(_Model):
    """Words of the trade: groups that patterns and arguments refer to by name, with tolerance for typing errors."""

    words: dict[Name, tuple[Word, ...]] = {}
    verbs: dict[Name, dict[Form, tuple[Word, ...]]] = {}


class Reason(StrEnum):
    """Why a text became no intent."""

    ONLY_QUOTED = "only_quoted"
    NO_REQUEST = "no_request"
    NEGATED = "negated"
    CONDITIONAL = "conditional"
    LATER = "later"
    REPORTED = "reported"
    RETRACTED = "retracted"
    QUESTION = "question"
    STATEMENT = "statement"
    UNKNOWN_VERB = "unknown_verb"
    RESTRICTED = "restricted"
    SEVERAL = "several"
    NOT_UNDERSTOOD = "not_understood"
    TIE = "tie"
    INVALID_ADDRESS = "invalid_address"
    TOO_LONG = "too_long"
    AMBIGUOUS_ARGUMENT = "ambiguous_argument"
    TAINTED = "tainted"


class ArgumentValue(_Model):
    """A value and where it comes from."""

    value: Any
    source: Source = Source.TRUSTED
    words: str = ""
    """The words it was read from, as written; empty for a default or a value of the context."""
    origin: Literal["request", "default", "context"] = "request"


class Rejected(_Model):
    """Why another intent, or another pattern, lost."""

    intent: str
    pattern: int
    reason: str


class SentenceMood(_Model):
    text: str
    mood: str


class Evidence(_Model):
    """Why the answer is what it is: for `cpa route` and the explanation of a job."""

    pattern: int | None = None
    """Number of the pattern that matched, from 0."""
    words: tuple[str, ...] = ()
    """The words it recognised."""
    corrected: dict[str, str] = {}
    """Typing errors and what they were taken for."""
    sentences: tuple[SentenceMood, ...] = ()
    removed: tuple[str, ...] = ()
    """What was not read: quoted, signature, greeting, subject."""
    rejected: tuple[Rejected, ...] = ()


UNKNOWN = "unknown"


class Intent(_Model):
    """What a request asks for, or `unknown` with a reason and a question to ask back."""

    name: str
    score: float = Field(ge=0, le=1)
    arguments: dict[str, ArgumentValue] = {}
    missing: tuple[str, ...] = ()
    """Required arguments the request does not name: nothing may run before they are asked for."""
    evidence: Evidence = Evidence()
    reason: Reason | None = None
    detail: str = ""
    question: str = ""
    """What to ask back, in the request's language; empty when nothing is open."""
    locale: Literal["de", "en"] = "en"

    @property
    def unknown(self) -> bool:
        return self.name == UNKNOWN

    @property
    def complete(self) -> bool:
        """Known, and nothing is missing."""
        return not self.unknown and not self.missing

    def values(self) -> dict[str, Any]:
        return {name: argument.value for name, argument in self.arguments.items()}


class RouteContext(_Model):
    """What the channel knows about a request besides its words."""

    user: str = ""
    """Who asks; "send it to me" needs a mail address here."""
    locale: Literal["de", "en"] | None = None
    """Language of the answer; None takes the request's own."""
    replies: dict[str, str] = {}
    """What was answered when an argument was asked for, in the person's words."""
    authenticated: bool = True
    """Whether the channel vouches for the requester; otherwise every argument counts as tainted."""
