"""Conditions (`when`): a small language over earlier results, in which every condition has an answer.

    tasks.find.result.count > 0 and not tasks.find.result.subject contains "Mahnung"
    exists(tasks.login.result.url) or tasks.find.result.state in ["offen", "open"]

    condition  = either { "or" either }          either  = each { "and" each }
    each       = "not" each | "(" condition ")" | "exists" "(" reference ")" | true | false | operand relation
    relation   = ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in" | "contains") operand
    operand    = reference (with or without braces) | "text" | 'text' | 1.5 | true | false | null | [ … ]

Total: `evaluate` never raises. A value that is not there compares as null. Values of different types are
unequal, and every other comparison between them is false; a number is never equal to a text, nor true to 1.
Numbers and texts have an order (texts by code point), nothing else has. `in` and `contains` look into a list,
a text or an object's names. `exists` is true for every value but null. There is no truth of values: a
condition compares, so that the text "false" cannot mean yes by accident.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cpa.core.references import MISSING, REFERENCE_PATTERN, Reference, Scope, lookup
from cpa.core.references import parse as parse_reference
from cpa.errors import InvalidDocument

MAX_LENGTH = 4096
"""Longest condition, in characters."""
MAX_NESTING = 32
"""How deep parentheses and `not` may be nested."""

Test = Callable[[Scope], bool]
Operand = Callable[[Scope], Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition; equal to another when its text is."""

    text: str
    references: tuple[Reference, ...]
    """What it reads, in order of appearance."""
    _test: _Test

    def evaluate(self, scope: Scope) -> bool:
        """Whether it holds; never raises."""
        return self._test(scope)


class _Test:
    """The compiled form. Its own class so that conditions compare by text and references alone."""

    __slots__ = ("_call",)

    def __init__(self, call: Test) -> None:
        self._call = call

    def __call__(self, scope: Scope) -> bool:
        return self._call(scope)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Test)

    def __hash__(self) -> int:
        return 0


def parse(text: str) -> Condition:
    """The condition written as `text`. Raises `InvalidDocument` naming the column."""
    parser = _Parser(text)
    test = parser.whole()
    return Condition(text, tuple(parser.references), _Test(test))


def bind(text: str, scope: Scope) -> str:
    """The condition with references to `arguments` and `values` replaced by literals, for storing in a plan.

    A value enters as a literal, whatever it says: it cannot become a part of the condition. Values that are
    not there become null. Raises `InvalidDocument` for a broken condition or an object.
    """
    parse(text)
    pieces, end = [], 0
    for token in _tokens(text):
        if token.kind == "reference" and (reference := _reference(token)).root != "tasks":
            pieces += [text[end : token.start], _literal_of(lookup(reference, scope), reference)]
            end = token.start + len(token.text)
    bound = "".join(pieces) + text[end:]
    parse(bound)
    return bound


def _literal_of(value: Any, reference: Reference) -> str:
    value = None if value is MISSING else value
    items = value if isinstance(value, list) else [value]
    if not all(item is None or isinstance(item, str | int | float) for item in items):
        raise _incomparable(reference, "an object")
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise _incomparable(reference, "not a number that can be written") from error


def _incomparable(reference: Reference, what: str) -> InvalidDocument:
    return InvalidDocument(
        f"{{{{ {reference.text} }}}} is {what} and cannot be compared",
        field="when",
        value=reference.text,
        remedy="Refer to a text or a number.",
    )


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


_TOKEN = re.compile(
    rf"""(?P<space>\s+)
    |(?P<reference>\{{\{{\s{{0,9}}{REFERENCE_PATTERN}\s{{0,9}}\}}\}}|{REFERENCE_PATTERN})
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{{1,3}})?(?![\w.]))
    |(?P<operator>==|!=|<=|>=|<|>)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>[()\[\],])""",
    re.VERBOSE | re.DOTALL,
)
_HINTS = {
    "=": "Equality is written ==.",
    "&": "Write `and`.",
    "|": "Write `or`.",
    "!": "Write `not` or !=.",
    ",": "Decimals are written with a point: 1.5.",
    "{": "Write {{ tasks.<id>.result.<name> }}, or leave the braces out.",
    '"': "Close the text with a quotation mark.",
    "'": "Close the text with a quotation mark.",
}
_CONSTANTS: Mapping[str, Any] = {
    "true": True, "True": True, "false": False, "False": False, "null": None, "None": None
}  # fmt: skip
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _error(text, position, f"{text[position : position + 20]!r} cannot stand here")
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match[0], position))
        position = match.end()
    return tokens


def _error(text: str, position: int, said: str) -> InvalidDocument:
    remedy = _HINTS.get(text[position : position + 1], "Compare, as in `tasks.find.result.count > 0`.")
    return InvalidDocument(f"{said} (column {position + 1})", field="when", value=text, remedy=remedy)


def _unescaped(match: re.Match[str]) -> str:
    """One escape as JSON has it; other characters stand for themselves."""
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)


def _reference(token: _Token) -> Reference:
    return parse_reference(token.text.strip("{}") if token.text.startswith("{{") else token.text)


class _Parser:
    """Recursive descent over the tokens; builds closures, so that evaluation walks no tree."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise InvalidDocument(
                f"the condition is longer than {MAX_LENGTH} characters", field="when", remedy="Shorten it."
            )
        self.text = text
        self.tokens = _tokens(text)
        self.tokens.append(_Token("end", "", len(text)))
        self.at = 0
        self.depth = 0
        self.references: list[Reference] = []

    def whole(self) -> Test:
        test = self.either()
        if self.token.kind != "end":
            raise self.unexpected("`and`, `or` or the end")
        return test

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def take(self, *texts: str) -> bool:
        """Step over the token if it is one of these words or signs."""
        if self.token.kind in ("word", "sign", "operator") and self.token.text in texts:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self.unexpected(f"{text!r}")

    def unexpected(self, wanted: str) -> InvalidDocument:
        found = repr(self.token.text[:20]) if self.token.text else "the end"
        return _error(self.text, self.token.start, f"expected {wanted}, found {found}")

    def either(self) -> Test:
        tests = [self.both()]
        while self.take("or"):
            tests.append(self.both())
        return tests[0] if len(tests) == 1 else lambda scope: any(test(scope) for test in tests)

    def both(self) -> Test:
        tests = [self.each()]
        while self.take("and"):
            tests.append(self.each())
        return tests[0] if len(tests) == 1 else lambda scope: all(test(scope) for test in tests)

    def each(self) -> Test:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise _error(self.text, self.token.start, f"nested more than {MAX_NESTING} deep")
        test = self.nested()
        self.depth -= 1
        return test

    def nested(self) -> Test:
        if self.take("not"):
            test = self.each()
            return lambda scope: not test(scope)
        if self.take("("):
            test = self.either()
            self.expect(")")
            return test
        if self.take("exists"):
            return self.exists()
        return self.comparison()

    def exists(self) -> Test:
        self.expect("(")
        if self.token.kind != "reference":
            raise self.unexpected("a reference")
        operand = self.operand()
        self.expect(")")
        return lambda scope: operand(scope) is not None

    def comparison(self) -> Test:
        constant = _CONSTANTS.get(self.token.text) if self.token.kind == "word" else None
        left = self.operand()
        if self.take("not"):
            self.expect("in")
            right = self.operand()
            return lambda scope: not _contains(right(scope), left(scope))
        compare = _COMPARISONS.get(self.token.text)
        if compare is not None and self.token.kind in ("word", "operator"):
            self.at += 1
            right = self.operand()
            return lambda scope: compare(left(scope), right(scope))
        if isinstance(constant, bool):
            return lambda scope: constant
        raise self.unexpected("a comparison such as == or `in`")

    def operand(self) -> Operand:
        token = self.token
        if token.kind == "reference":
            self.at += 1
            return self.reference(token)
        value = self.literal()
        return lambda scope: value

    def reference(self, token: _Token) -> Operand:
        try:
            reference = _reference(token)
        except InvalidDocument as error:
            raise _error(self.text, token.start, error.message) from error
        self.references.append(reference)

        def read(scope: Scope) -> Any:
            value = lookup(reference, scope)
            return None if value is MISSING else value

        return read

    def literal(self) -> Any:
        token = self.token
        if self.take("["):
            return self.items()
        if token.kind == "word" and token.text in _CONSTANTS:
            value: Any = _CONSTANTS[token.text]
        elif token.kind == "string":
            value = _ESCAPE.sub(_unescaped, token.text[1:-1])
        elif token.kind == "number":
            value = float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        else:
            raise self.unexpected("a reference, a text in quotes, a number, true, false, null or a list")
        self.at += 1
        return value

    def items(self) -> list[Any]:
        found: list[Any] = []
        while not self.take("]"):
            if found:
                self.expect(",")
            if self.token.text == "[":
                raise self.unexpected("a text, a number, true, false or null")
            found.append(self.literal())
        return found


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "object" if isinstance(value, Mapping) else "list"


def _equal(left: Any, right: Any) -> bool:
    try:
        return _kind(left) == _kind(right) and bool(left == right)
    except RecursionError:  # two results nested deeper than the interpreter can compare
        return False


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def answer(left: Any, right: Any) -> bool:
        kind = _kind(left)
        return kind in ("number", "text") and kind == _kind(right) and compare(left, right)

    return answer


def _contains(container: Any, item: Any) -> bool:
    if isinstance(container, str | Mapping):
        return isinstance(item, str) and item in container
    if isinstance(container, list | tuple):
        return any(_equal(item, member) for member in container)
    return False


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "in": lambda left, right: _contains(right, left),
    "contains": _contains,
}
