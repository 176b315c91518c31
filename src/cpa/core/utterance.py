"""Reading a mail or a chat line down to the sentences that its writer says in their own name, now.

Taken away, because nobody asks for anything there: quoted replies (`>` lines, "On … wrote:", "-----Original
Message-----", "Von: … Gesendet: …" and everything below), forwarded messages, fenced blocks, the signature
from its closing phrase on, the greeting, a leading subject line. A postscript after the signature is kept.

What is left becomes tokens (words, mail addresses, links, quoted strings, punctuation) in sentences. A dot
inside an address, number, date or abbreviation ends no sentence; a quoted string is one opaque token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cpa.core.folding import clean, fold
from cpa.core.quotation import closing_quote
from cpa.errors import BadInput, TooLarge

MAX_TEXT = 20_000
"""Longest request that is read, in characters."""

_HEADER = re.compile(r"\s*\*?(von|from|de)\s*:\*?\s*\S")
_HEADER_NEXT = re.compile(r"\s*\*?(gesendet|sent|datum|date|an|to|betreff|subject|cc)\s*:")
_REST_QUOTED = re.compile(
    r"\s*(?:[-_=*~]{2,}\s*(?:\w[\w ]{0,20} )?(?:original(?:e|nal)?[ -]?(?:message|nachricht|mail)|"
    r"urspruengliche nachricht|"
    r"forwarded (?:message|mail|by)|weitergeleitete (?:nachricht|mail)|original appointment|"
    r"message transfere)"
    r"|begin forwarded message|anfang der weitergeleiteten|(?:urspruengliche|"
    r"weitergeleitete) nachricht\s*:?\s*$"
    r"|(?:original|forwarded) message\s*:?\s*$)"
)
_WROTE = re.compile(
    r"\s*(?:(?:am|on|le|den)\b.{0,200}?\b(?:schrieb|wrote|schreibt|writes|hat geschrieben|"
    r"a ecrit)\b.{0,120}:?\s*$"
    r"|[^.!?]{1,120}\b(?:schrieb|wrote|schreibt|writes)\b(?: am| on)?[^.!?]{0,80}:\s*$)"
)
_CLOSING = re.compile(
    r"(?:^|(?<=[.!?,;:)])|(?<=\bdanke)|(?<=\bthanks))\s*(?:(?:mit|mfg|m\.f\.g\.|vielen dank und|"
    r"danke und|thanks and)\s*)?"
    r"(?:(?:freundlich\w*|viel\w*|lieb\w*|best\w*|schoen\w*|herzlich\w*|nett\w*|sonnig\w*|"
    r"kollegial\w*) gru(?:ess|ss|s)\w*"
    r"|hochachtungsvoll|mfg|gruss|gruesse|schoene gruesse|lg|vg|bg|sg|"
    r"(?:best|kind|warm|kindest|warmest|many|with best|with kind) (?:regards|wishes)|regards|"
    r"sincerely|yours (?:sincerely|faithfully|truly)|cordially|br|cheers|best)(?=\s*(?:[,!.\n-]|$)|"
    r"\s+(?:aus\s|[a-z.\- ]{1,40}$))"
)
_FOOTER = re.compile(
    r"\s*(?:--\s*$|__+\s*$|sent from my\b|von meinem \S+ gesendet|gesendet (?:von|mit)\b|get outlook|"
    r"diese e-?mail (?:ist|kann|enthaelt)|"
    r"this (?:e-?mail|message) (?:is|may|and|contains)|confidentiality|disclaimer|sent via\b|sent with\b)"
)
_POSTSCRIPT = re.compile(r"\s*(?:p\.?\s?s\.?|n\.?b\.?|nachtrag|update|edit)\s*[:.]?\s", re.IGNORECASE)
_SUBJECT = re.compile(r"\s*(?:subject|betreff|re|aw|wg|fwd?|fw)\s*:")
_GREETING = re.compile(
    r"\s*(?:hallo|hi|hey|hello|dear|liebe[rs]?|sehr geehrte[rs]?|guten? (?:tag|morgen|abend)|"
    r"good (?:morning|afternoon|evening|day)|"
    r"moin(?: moin)?|servus|gruess gott|greetings|gruezi|hiya|salut|werte[rs]?|to whom it may concern|"
    r"ahoi|tach)\b"
    r"[^,!:\n?@]{0,60}?(?:[,!:\n]| -+ |$)"
)
_NO_GREETING = re.compile(
    r"\b(?:bitte|please|pl[sz]|could|can|would|koenn\w+|kannst|wuerd\w+|hol\w*|schick\w*|send\w*|get|"
    r"fetch|such\w*|"
    r"search|find\w*|export\w*|i|ich|wir|we|mail\w*|download\w*|lad\w*|not|nicht|don't|keine?)\b"
)
_ANNOUNCED = re.compile(
    r"(?:@[\w.-]+|\b(?:saying|says?|writing|schreib\w*|text|inhalt|nachricht|message|body|words?|worten)"
    r"|\b(?:mit|with|und|and) (?:(?:dem|the) )?(?:betreff|subject|thema):? "
    r"(?:[\"“„«][^\"”“»\n]{1,200}[\"”“»]|[^:\n]{1,200}))\s*:(?=\s|$)"
)
"""The words of a mail follow, on this line or from the next one that is not empty."""
_QUOTE_ANNOUNCED = re.compile(
    r"(?::|\b(?:saying|text|inhalt|nachricht|message|body|words|worten))\s{0,9}(?=[\"„“«»])", re.IGNORECASE
)
_BULLET = re.compile(r"\s*(?:[-*•·–]|\d{1,2}[.)])\s+")

_TOKEN = re.compile(
    r"(?P<mail><?[\w.!#$%&'*+/=?^`{|}~-]*@[\w.@-]*[\w]>?|@\w*)"
    r"|(?P<url>https?://[^\s<>\"]*[^\s<>\".,;:!?)])"
    r"|(?P<quoted>[\"“„”«»][^\"“„”«»\n]{1,2000}[\"“”«»]|(?<!\w)['‘‚][^'’‘\n]{2,300}['’‘](?!\w))"
    r"|(?P<number>\d+(?:[.,:/-]\d+)*(?![\w]))"
    r"|(?P<word>[^\W_]+(?:[-_/.'’][^\W_]+)*)"
    r"|(?P<punct>[^\s\w])",
)
_MAIL = re.compile(
    r"(?!\.)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}(?<!\.)@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,63}"
)
_CLITIC = re.compile(r"(.*[^\Wsxz_]|.*[sxz])(['’]s|['’])$", re.IGNORECASE)
_ABBREVIATIONS = frozenset(
    [
        "nr",
        "no",
        "dr",
        "hr",
        "fr",
        "mr",
        "mrs",
        "ms",
        "st",
        "inc",
        "corp",
        "co",
        "ltd",
        "bzw",
        "ggf",
        "usw",
        "evtl",
        "ca",
        "z",
        "b",
        "zb",
        "u",
        "d",
        "e",
        "g",
        "i",
        "v",
        "eg",
        "ie",
        "etc",
        "vs",
        "tel",
        "str",
        "prof",
        "dept",
    ]
)
_ENDS = ".!?;"
SUBJECT_LABELS = frozenset(("subject", "betreff", "betreffzeile", "thema"))
LABELS = SUBJECT_LABELS | {"text", "inhalt", "nachricht", "message", "body"}
"""What stands before the parts of a mail: "Betreff: …"."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word or sign: as written, as compared, where it stands in the cleaned text."""

    text: str
    fold: str
    start: int
    end: int
    kind: str
    """word, mail, badmail, url, number, quoted, punct, clitic (`'s`)."""


@dataclass(frozen=True, slots=True)
class Sentence:
    tokens: tuple[Token, ...]
    ending: str
    """`.`, `!`, `?`, `;` or empty."""
    paragraph: int
    end: int
    """Where its paragraph ends in the text: content after a colon runs at most that far."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the writer says themselves."""

    text: str
    sentences: tuple[Sentence, ...]
    removed: tuple[str, ...]
    """What was taken away: `quoted`, `signature`, `greeting`, `subject`."""


def read(text: str) -> Utterance:
    """Raises `BadInput` for an empty text and `TooLarge` for one over `MAX_TEXT` characters."""
    if len(text) > MAX_TEXT:
        raise TooLarge(
            f"the request has {len(text)} characters, more than {MAX_TEXT}",
            field="text",
            remedy="Send the request itself and attach the rest as a file.",
        )
    cleaned = clean(text)
    if not cleaned.strip():
        raise BadInput("the request is empty", field="text", remedy="Say in a sentence what is to be done.")
    own, removed = own_words(cleaned)
    return Utterance(own, tuple(_sentences(own)), removed)


def own_words(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without quotes, signature, greeting and subject line, and which of them there were."""
    removed: list[str] = []
    lines = _without_quotes(text.split("\n"), removed)
    lines = _without_signature(lines, removed)
    while lines and not lines[0].strip():
        lines.pop(0)
    if lines and _SUBJECT.match(fold(lines[0])):
        lines.pop(0)
        removed.append("subject")
    body = "\n".join(lines).strip()
    return _without_greeting(body, removed), tuple(dict.fromkeys(removed))


def _without_quotes(lines: list[str], removed: list[str]) -> list[str]:
    kept: list[str] = []
    fenced = False
    for index, line in enumerate(lines):
        plain = fold(line)
        if line.strip().startswith("```"):
            fenced = not fenced
            removed.append("quoted")
            continue
        if fenced:
            continue
        if plain.lstrip().startswith((">", "|")):
            removed.append("quoted")
            continue
        if _REST_QUOTED.match(plain) or _is_header(lines, index):
            removed.append("quoted")
            break
        joined = plain if _WROTE.match(plain) else _joined_intro(lines, index)
        if joined and _WROTE.match(joined):
            removed.append("quoted")
            if _next_is_marked(lines, index):
                if joined is not plain:
                    lines[index + 1] = ">"
                continue
            break
        kept.append(line)
    return kept


def _is_header(lines: list[str], index: int) -> bool:
    """`From: …` with `Sent: …` or the like close below: an unmarked quoted message begins."""
    if not _HEADER.match(fold(lines[index])):
        return False
    return any(_HEADER_NEXT.match(fold(line)) for line in lines[index + 1 : index + 6])


def _joined_intro(lines: list[str], index: int) -> str:
    """This line and the next as one, when together they may be a broken "On … wrote:"."""
    first = fold(lines[index]).strip()
    if not first.startswith(("on ", "am ")) or index + 1 >= len(lines):
        return ""
    second = fold(lines[index + 1]).strip()
    return f"{first} {second}" if second.endswith(":") else ""


def _next_is_marked(lines: list[str], index: int) -> bool:
    for line in lines[index + 1 : index + 4]:
        if line.strip():
            return line.lstrip().startswith(">") or (
                fold(line).rstrip().endswith(":") and _next_is_marked(lines, index + 1)
            )
    return False


def _without_signature(lines: list[str], removed: list[str]) -> list[str]:
    """Everything up to the closing phrase, and postscripts after it."""
    announced = False
    passed_on = _quoted_content(lines)
    for index, line in enumerate(lines):
        if index in passed_on:
            continue
        plain = fold(line)
        before, announced = announced, _announces(plain, announced)
        footer = _FOOTER.match(plain)
        closing = (
            None
            if footer or (index == 0 and len(lines) == 1 and not re.search(r"[.!?]", plain))
            else _CLOSING.search(plain)
        )
        if closing and (before or _ANNOUNCED.search(plain, 0, closing.start())):
            continue  # the greeting belongs to what is to be written, not to the request
        if not footer and not closing:
            continue
        removed.append("signature")
        kept = lines[:index]
        if closing:
            kept.append(_original_until(line, closing.start()))
        for later in range(index + 1, len(lines)):
            if _POSTSCRIPT.match(lines[later]):
                kept += ["", _POSTSCRIPT.sub("", lines[later], count=1), *lines[later + 1 :]]
                break
        return kept
    return lines


def _quoted_content(lines: list[str]) -> frozenset[int]:
    """The lines in which a quoted text goes on whose words are to be written: a greeting there is no signature."""
    text = "\n".join(lines)
    inside: set[int] = set()
    found = _QUOTE_ANNOUNCED.search(text)
    while found and (end := closing_quote(text, found.end())):
        first = text.count("\n", 0, found.end())
        inside.update(range(first + 1, first + text.count("\n", found.end(), end) + 1))
        found = _QUOTE_ANNOUNCED.search(text, end)
    return frozenset(inside)


def _announces(plain: str, before: bool) -> bool:
    """Whether what is to be written begins with the next line: this one ends in its announcement, or is empty after
    one that did."""
    return before if not plain.strip() else plain.rstrip().endswith(":") and bool(_ANNOUNCED.search(plain))


def _original_until(line: str, folded: int) -> str:
    """The part of a line that comes before a place in its folded form."""
    total = 0
    for position, char in enumerate(line):
        if total >= folded:
            return line[:position]
        total += len(fold(char))
    return line


def _without_greeting(body: str, removed: list[str]) -> str:
    plain = fold(body[:200])
    match = _GREETING.match(plain)
    if match and not _NO_GREETING.search(match.group()):
        removed.append("greeting")
        return body[len(_original_until(body[:200], match.end())) :].strip()
    return body


def _sentences(text: str) -> list[Sentence]:
    found: list[Sentence] = []
    for number, (start, end) in enumerate(_paragraphs(text)):
        current: list[Token] = []
        tokens = list(tokens_of(text, start, end))
        for index, token in enumerate(tokens):
            following = tokens[index + 1] if index + 1 < len(tokens) else None
            if token.kind == "punct" and token.text in _ENDS and not _abbreviated(current, token, following):
                _close(found, current, token.text, number, end)
                current = []
            else:
                if current and _new_line_starts(text, current, token):
                    _close(found, current, "", number, end)
                    current = []
                current.append(token)
        _close(found, current, "", number, end)
    return found


def _close(found: list[Sentence], tokens: list[Token], ending: str, paragraph: int, end: int) -> None:
    if tokens:
        found.append(Sentence(tuple(tokens), ending, paragraph, end))
    elif ending == "?" and found:
        last = found[-1]
        found[-1] = Sentence(last.tokens, "?", last.paragraph, last.end)


def _paragraphs(text: str) -> list[tuple[int, int]]:
    """Ranges between blank lines; a list item begins its own."""
    ranges: list[tuple[int, int]] = []
    start, position = 0, 0
    for line in text.split("\n"):
        bullet = _BULLET.match(line)
        if not line.strip() or bullet:
            ranges.append((start, position))
            start = position + (bullet.end() if bullet else len(line))
        position += len(line) + 1
    ranges.append((start, len(text)))
    return [(a, min(b, len(text))) for a, b in ranges if text[a:b].strip()]


def _abbreviated(before: list[Token], dot: Token, following: Token | None) -> bool:
    if dot.text != "." or not before or following is None:
        return False
    last = before[-1]
    if last.end != dot.start:
        return False
    return last.fold in _ABBREVIATIONS or (last.kind == "number" and following.text[:1].islower())


def _new_line_starts(text: str, before: list[Token], token: Token) -> bool:
    """A line break before or after "Betreff:", or before a capital letter: people leave out the full stop."""
    last = before[-1]
    gap = text[last.end : token.start]
    if "\n" in gap and before[0].fold in SUBJECT_LABELS and before[1:2] and before[1].text == ":":
        return True
    if "\n" in gap and token.fold in LABELS and text[token.end : token.end + 2].strip()[:1] == ":":
        return True
    if "\n" not in gap or last.text in ",:(-&" or not token.text[:1].isupper():
        return False
    return bool(_NO_GREETING.match(token.fold))


def tokens_of(text: str, start: int, end: int) -> list[Token]:
    """Tokens of a range of the text; `ACME's` becomes two."""
    found: list[Token] = []
    for match in _TOKEN.finditer(text, start, end):
        kind, word, at = str(match.lastgroup), match.group(), match.start()
        if kind == "mail":
            found.append(_address(word, at))
        elif (
            kind == "word" and not re.search(r"n['’]t$", word, re.IGNORECASE) and (cut := _CLITIC.match(word))
        ):
            stem = cut.group(1)
            found.append(Token(stem, fold(stem), at, at + len(stem), "word"))
            found.append(Token(word[len(stem) :], "'s", at + len(stem), match.end(), "clitic"))
        else:
            found.append(Token(word, fold(word), at, match.end(), kind))
    return found


def _address(word: str, at: int) -> Token:
    bare = word.strip("<>")
    at += len(word) - len(word.lstrip("<"))
    bare = bare.removeprefix("mailto:")
    kind = "mail" if is_address(bare) else "badmail"
    return Token(bare, fold(bare), at, at + len(bare), kind)


def is_address(word: str) -> bool:
    """Whether this is a plain mail address with a full domain: the only form a recipient may have."""
    return bool(_MAIL.fullmatch(word)) and ".." not in word and len(word) <= 254
