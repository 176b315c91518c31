"""The words of a sentence with what the lexicon knows about them, and which of them are only passed on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cpa.core.folding import fold
from cpa.core.lexicon import Lexicon
from cpa.core.utterance import SUBJECT_LABELS, Sentence, Token
from cpa.core.verbs import NOUNS

_FILLERS = frozenset(
    (
        "please",
        "courtesy",
        "article",
        "object",
        "beneficiary",
        "conjunction",
        "particle",
        "preposition",
        "comma",
        "frame",
    )
)
_CONTENT = (
    ("saying",),
    ("that", "says"),
    ("which", "says"),
    ("with", "the", "text"),
    ("with", "text"),
    ("with", "the", "message"),
    ("with", "the", "body"),
    ("with", "the", "content"),
    ("and", "the", "text"),
    ("and", "text"),
    ("and", "body"),
    ("and", "the", "message"),
    ("and", "tell"),
    ("and", "say", ":"),
    ("and", "write", ":"),
    ("mit", "dem", "text"),
    ("mit", "text"),
    ("mit", "der", "nachricht"),
    ("mit", "dem", "inhalt"),
    ("mit", "folgendem", "text"),
    ("mit", "folgendem", "inhalt"),
    ("with", "the", "following", "text"),
    ("und", "dem", "text"),
    ("und", "text"),
    ("und", "als", "text"),
    ("und", "folgendem", "text"),
    ("und", "folgendem", "inhalt"),
    ("und", "inhalt"),
    ("und", "nachricht"),
    ("und", "mailtext"),
    ("mit", "inhalt"),
    ("mit", "folgender", "nachricht"),
    ("and", "content"),
    ("and", "message"),
    ("with", "content"),
    ("inhalt", ":"),
    ("und", "der", "nachricht"),
    ("und", "dem", "inhalt"),
    ("und", "schreibe", ":"),
    ("und", "schreib", ":"),
    ("und", "schreibt", ":"),
    ("und", "sage", ":"),
    ("und", "sag", ":"),
    ("text",),
    ("body",),
    ("dass",),
    ("that",),
    (":",),
)


@dataclass(frozen=True, slots=True)
class Marked:
    """A token with what the lexicon knows about it."""

    token: Token
    tags: frozenset[str] = frozenset()
    """`verb:send:order`, `word:invoice`, `negation`, `article` …; empty for an unknown word."""
    content: bool = False
    corrected: str = ""
    """The known word a typing error was taken for; empty in content, which is passed on as written."""

    @property
    def verbs(self) -> frozenset[str]:
        """The verb classes it belongs to, in a form that can ask."""
        return frozenset(
            tag.split(":")[1] for tag in self.tags if tag.startswith("verb:") and not tag.endswith(":report")
        )

    @property
    def filler(self) -> bool:
        return bool(self.tags & _FILLERS)


def mark(sentence: Sentence, lexicon: Lexicon, *, eager: bool = False) -> tuple[Marked, ...]:
    """Look every token up; `eager` also takes capitalised unknown words for typing errors of known ones."""
    tokens = _split_compounds(sentence.tokens, lexicon)
    tags: list[set[str]] = [set() for _ in tokens]
    corrected = [""] * len(tokens)
    for index, token in enumerate(tokens):
        if token.kind in ("word", "clitic"):
            tags[index] |= lexicon.tags(token.fold)
            if not tags[index] and token.kind == "word" and (eager or not index or token.text[:1].islower()):
                word = lexicon.correct(token.fold)
                if word and not (index and tokens[index - 1].fold in _NAMED_BY and token.text[:1].isupper()):
                    corrected[index] = word
                    tags[index] |= lexicon.tags(word)
        elif token.kind == "punct" and token.text in ",-()–":
            tags[index].add("comma")
    folds = [corrected[i] or t.fold for i, t in enumerate(tokens)]
    for start, length, tag in lexicon.phrases(folds):
        for index in range(start, start + length):
            tags[index] = {tag}
    for index in _numbered(tokens):
        tags[index] = {"article"}
    for index in _nouns(tokens, tags):
        tags[index] = {t for t in tags[index] if not t.startswith("verb:")}
    for indices, found in lexicon.split_verbs(folds):
        for index in indices:
            tags[index] = {t for t in tags[index] if not t.startswith("verb:")} | found
    marked = tuple(Marked(token, frozenset(tags[i]), False, corrected[i]) for i, token in enumerate(tokens))
    return _mark_content(marked)


_NAMED_BY = frozenset(
    [
        "of",
        "from",
        "for",
        "von",
        "für",
        "fuer",
        "by",
        "kunde",
        "kunden",
        "customer",
        "firma",
        "company",
        "supplier",
        "lieferant",
        "lieferanten",
    ]
)


def _numbered(tokens: Sequence[Token]) -> Iterator[int]:
    """The words that only announce a number: "no. 7", "Nr. 7", "#7"."""
    for index, token in enumerate(tokens[:-1]):
        length = (
            1
            if token.text == "#"
            else 2
            if token.fold in ("no", "nr") and tokens[index + 1].text == "."
            else 0
        )
        if length and index + length < len(tokens) and tokens[index + length].text[:1].isdigit():
            yield from range(index, index + length)


def _nouns(tokens: Sequence[Token], tags: Sequence[set[str]]) -> list[int]:
    """Words that would be verbs at the beginning of an order, and stand elsewhere: "the order 4711"."""
    found: list[int] = []
    opening = True
    for index, token in enumerate(tokens):
        by_mail = bool(index) and tokens[index - 1].fold in _BY and token.fold in _MAIL
        if by_mail or (not opening and token.fold in _NOUNS):
            found.append(index)
        if not tags[index] & _BEFORE_ORDERS:
            opening = token.fold in _CALLING or bool(tags[index] & {"conjunction", "negation"})
    return found


_BY = frozenset(("per", "by", "via"))
_MAIL = frozenset(("mail", "email", "e-mail"))
_NOUNS = frozenset(fold(word) for word in NOUNS.split())
_BEFORE_ORDERS = frozenset(("please", "courtesy", "particle", "beneficiary", "intensifier", "comma"))
_CALLING = frozenset(("do", "you", "u", "to", "sie", "du", "ihr", "jemand", "somebody", "someone"))
"""After these an order may stand: "could you …", "I would like you to …"."""


def _split_compounds(tokens: Sequence[Token], lexicon: Lexicon) -> list[Token]:
    """ "ACME-Rechnung" as two words, when the second is one of the trade's."""
    out: list[Token] = []
    for token in tokens:
        head, sign, tail = token.text.rpartition("-")
        known = lexicon.tags(token.fold)
        if (
            token.kind == "word"
            and sign
            and head
            and not known
            and any(tag.startswith("word:") for tag in lexicon.tags(fold(tail)))
        ):
            cut = token.start + len(head)
            out.append(Token(head, fold(head), token.start, cut, "word"))
            out.append(Token(tail, fold(tail), cut + 1, token.end, "word"))
        else:
            out.append(token)
    return out


def contrast(sentence: Sentence, lexicon: Lexicon) -> list[Sentence]:
    """A sentence as two where "…, but do not …" begins, so that each half has its own mood."""
    marked = mark(sentence, lexicon)
    for index in range(1, len(marked) - 1):
        item = marked[index]
        if item.content:
            break
        word = item.token.fold
        if word in _BUT:
            splits = any("negation" in m.tags for m in marked[index + 1 :] if not m.content)
        elif word in ("and", "und"):
            near = [m for m in marked[index + 1 : index + 3] if not m.content and "please" not in m.tags]
            splits = any("negation" in m.tags for m in near)
        else:
            splits = False
        if splits:
            at = item.token.start
            first = tuple(
                t for t in sentence.tokens if t.start < at and not (t.text == "," and t.end >= at - 1)
            )
            second = tuple(t for t in sentence.tokens if t.start > at)
            if first and second:
                return [replace(sentence, tokens=first), replace(sentence, tokens=second)]
    return [sentence]


_BUT = frozenset(("but", "aber", "jedoch", "however", "allerdings", "though"))


def _mark_content(marked: tuple[Marked, ...]) -> tuple[Marked, ...]:
    """Mark what is only passed on: a subject, and everything after a content mark that follows an address."""
    out = list(marked)
    late = _late_verb(out)
    has_address = has_verb = False
    index = 0
    while index < len(out):
        item = out[index]
        if (has_verb or late) and item.token.fold in _SUBJECT_WORDS:
            index = _mark_subject(out, index, 0 if has_verb else late)
            continue
        if has_address and (has_verb or late) and (length := _content_mark(out, index)):
            end = index + length
            while end < len(out) and out[end].token.text in (":", ","):
                end += 1
            if not has_verb and (end + 1 != late or out[end].token.kind != "quoted"):
                break
            until = len(out) if has_verb else late
            if end < until and out[end].token.kind == "quoted" and _subject_follows(out, end + 1):
                until = end + 1
            out[index:end] = [replace(m, tags=frozenset(("content_mark",))) for m in out[index:end]]
            out[end:until] = [Marked(m.token, content=True) for m in out[end:until]]
            if until != end + 1 or not has_verb:
                break
            index = until
            continue
        has_address = has_address or item.token.kind in ("mail", "badmail")
        noun = late and index and "word:mail" in item.tags and out[index - 1].tags & {"article", "word:short"}
        has_verb = has_verb or (not noun and bool(item.verbs & {"send", "write"}))
        index += 1
    return tuple(out)


def _subject_follows(marked: Sequence[Marked], index: int) -> bool:
    """Whether "and the subject …" begins here."""
    while index < len(marked) and marked[index].tags & {"conjunction", "preposition", "article", "comma"}:
        index += 1
    return index < len(marked) and marked[index].token.fold in _SUBJECT_WORDS


def _late_verb(marked: Sequence[Marked]) -> int:
    """Where the only verb stands that sends, if that is last: "… mit Betreff X und Text "Y" schicken"; else 0."""
    sending = [i for i, m in enumerate(marked) if m.verbs & {"send", "write"} and "word:mail" not in m.tags]
    return sending[0] if sending == [len(marked) - 1] else 0


_SUBJECT_WORDS = SUBJECT_LABELS | {"titled"}


def _mark_subject(out: list[Marked], index: int, late: int) -> int:
    """Mark "Betreff X" up to a comma, a content mark, "to <address>" or the verb at the end (`late`, or 0); gives
    the place after it."""
    out[index] = replace(out[index], tags=frozenset(("subject_mark",)))
    index += 1
    while index < len(out) and out[index].token.text in (":", "line", "of"):
        out[index] = replace(out[index], tags=frozenset(("subject_mark",)))
        index += 1
    if index < len(out) and out[index].token.kind == "quoted":
        out[index] = replace(out[index], tags=frozenset(("subject",)))
        return index + 1
    while index < len(out):
        after = out[index + 1].token if index + 1 < len(out) else None
        to_address = out[index].token.fold in ("an", "to") and after is not None and after.kind == "mail"
        if out[index].token.text == "," or to_address or index == late > 0 or _content_mark(out, index):
            break
        out[index] = Marked(out[index].token, frozenset(("subject",)), content=True)
        index += 1
    return index


def _content_mark(marked: Sequence[Marked], index: int) -> int:
    """How many words make a content mark here; 0 when none does."""
    for words in _CONTENT:
        piece = tuple(m.token.fold for m in marked[index : index + len(words)])
        if piece == words and (words != ("that",) or _is_message(marked[:index])):
            return len(words)
    return 0


def _is_message(before: Sequence[Marked]) -> bool:
    """Whether "that" begins what a message says: "tell bob@x that …", but not "send bob@x that file"."""
    return any("write" in m.verbs or m.token.fold in ("message", "note", "email", "e-mail") for m in before)
