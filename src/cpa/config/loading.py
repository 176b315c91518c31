"""YAML that a person wrote, read so that every error can say where it is: file, line, column, remedy.

Only plain data is read: no tags, no anchors or aliases (a few lines of them can unfold to gigabytes), no duplicate
keys, at most `MAX_BYTES` and `MAX_DEPTH`. Validation is pydantic's; `validate` translates its findings into lines
of the file and names the close match for an unknown key.
"""

from __future__ import annotations

import difflib
import os
import stat
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cpa.core.documents import written
from cpa.errors import BadInput, InvalidDocument, NotFound, TooLarge

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40

_IN_QUOTES = "Write the value itself, in quotes if it is text."

Model = TypeVar("Model", bound=BaseModel)
Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, where it is and what to do."""

    file: str
    line: int
    column: int
    field: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        todo = f" ({self.remedy})" if self.remedy else ""
        where = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}: {where}{self.message}{todo}"


class ConfigError(InvalidDocument):
    """A configuration file with errors; `problems` lists all of them, the message shows the first."""

    actor = "operator"
    problems: tuple[Problem, ...]

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        where = f"{first.file}:{first.line}: " + (f"{first.field}: " if first.field else "")
        super().__init__(f"{where}{first.message}{more}", remedy=first.remedy or None)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's data, and the line and column of each of its parts."""

    file: str
    value: Any
    places: Mapping[Path_, tuple[int, int]] = field(default_factory=dict)

    def problem(self, path: Path_, message: str, remedy: str = "") -> Problem:
        """A problem at the nearest part of the file that exists."""
        at = path
        while at and at not in self.places:
            at = at[:-1]
        line, column = self.places.get(at, (1, 1))
        return Problem(self.file, line, column, dotted(path), message, remedy)


def dotted(path: Path_) -> str:
    """`intents.mail.send.patterns[0].regex`"""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def load_file(path: Path) -> Document:
    """Raises `NotFound`, `TooLarge`, `BadInput` (not UTF-8, a folder) and `ConfigError`."""
    try:
        text = read_plain(path, MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no file {path}", remedy="Check the path; `cpa init DIR` writes a workspace."
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8 (byte {error.start})", remedy="Save the file as UTF-8."
        ) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", remedy="Give a readable file.") from error
    return load_text(text, str(path))


def read_plain(path: Path, limit: int) -> bytes:
    """The bytes of a plain file. `BadInput` for a pipe or a device, which may have no end; `TooLarge` over `limit`
    bytes; else what the system raises."""
    # Non-blocking, so that opening a pipe that nobody writes to does not wait for one who does.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path} is no plain file", value=str(path), remedy="Give the name of a file.")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLarge(f"{path} has more than {limit} bytes", value=str(path), remedy="Split the file.")
    return content


def load_text(text: str, file: str = "<text>", *, ours: bool = False) -> Document:
    """Raises `ConfigError`.

    `ours`: the text comes with CPA and is known to be well-formed, so libyaml may read it where it is there. That
    takes a tenth of the time, but it lets pass a few things that PyYAML refuses, and words its errors otherwise.
    """
    import yaml

    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise TooLarge(f"{file} has more than {MAX_BYTES} bytes", remedy="Split the file.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader) if ours else yaml.SafeLoader
    try:
        return _read(text, file, loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = error.problem or error.context or "no YAML"
        raise ConfigError(
            [Problem(file, line, column, "", what, "Check indentation, colons and quotes on this line.")]
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            [Problem(file, 1, 1, "", f"no YAML: {str(error)[:200]}", "Save it as plain UTF-8 text.")]
        ) from error


def _read(text: str, file: str, loader: Any) -> Document:
    import yaml

    _check_tokens(text, file, loader)
    node = yaml.compose(text, Loader=loader)
    builder = _Builder(file)
    value = builder.build(node, (), 0) if node is not None else None
    if builder.problems:
        raise ConfigError(builder.problems)
    return Document(file, value, builder.places)


def _check_tokens(text: str, file: str, loader: Any) -> None:
    """Refuse what is not read, and what would cost the parser more than it is worth, before it is parsed."""
    import yaml

    begin = (
        yaml.BlockMappingStartToken,
        yaml.BlockSequenceStartToken,
        yaml.FlowMappingStartToken,
        yaml.FlowSequenceStartToken,
    )
    end = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
    depth, said = 0, ("", "")
    for token in yaml.scan(text, Loader=loader):
        depth += isinstance(token, begin) - isinstance(token, end)
        if depth > MAX_DEPTH + 1:
            said = (f"nested more than {MAX_DEPTH} deep", "Flatten it.")
        elif isinstance(token, yaml.TagToken):
            said = ("a tag (!…) is not read", _IN_QUOTES)
        elif isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            said = ("an anchor or alias (& or *) is not read", _IN_QUOTES)
        if said[0]:
            mark = token.start_mark
            raise ConfigError([Problem(file, mark.line + 1, mark.column + 1, "", *said)])


class _Builder:
    """Data from YAML nodes, with places."""

    def __init__(self, file: str) -> None:
        import yaml

        self.file = file
        self._scalars = yaml.SafeLoader("")
        self.places: dict[Path_, tuple[int, int]] = {}
        self.problems: list[Problem] = []

    def build(self, node: Any, path: Path_, depth: int) -> Any:
        import yaml

        self.places.setdefault(path, self._at(node))
        if depth > MAX_DEPTH:
            self._report(node, path, f"nested more than {MAX_DEPTH} deep", "Flatten it.")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: Any, path: Path_, depth: int) -> dict[str, Any]:
        import yaml

        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(key_node, path, "a key is no text", "Write keys as plain words.")
                continue
            key = str(key_node.value)
            if key in out:
                first = self.places[(*path, key)][0]
                self._report(
                    key_node,
                    (*path, key),
                    f"the key {key!r} is already on line {first}",
                    "Remove one of the two.",
                )
                continue
            self.places[(*path, key)] = self._at(key_node)
            out[key] = self.build(value_node, (*path, key), depth + 1)
        return out

    def _scalar(self, node: Any, path: Path_) -> Any:
        try:
            value = self._scalars.construct_object(node)
        except (ValueError, OverflowError) as error:
            self._report(node, path, f"no value: {error}", "Put it in quotes.")
            return None
        if value is None or isinstance(value, str | bool | int | float):
            return value
        return str(node.value)  # dates stay as written

    def _at(self, node: Any) -> tuple[int, int]:
        return node.start_mark.line + 1, node.start_mark.column + 1

    def _report(self, node: Any, path: Path_, message: str, remedy: str) -> None:
        line, column = self._at(node)
        self.problems.append(Problem(self.file, line, column, dotted(path), message, remedy))


def validate(document: Document, model: type[Model]) -> Model:
    """The document as a model. Raises `ConfigError` with all that is wrong, in order of lines."""
    value = document.value
    if not isinstance(value, dict):
        problem = document.problem((), "the file holds no mapping", "Begin it with `version: 1`.")
        raise ConfigError([problem])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = [_problem(document, model, each) for each in details if not _follows(each, details)]
        raise ConfigError(sorted(set(found), key=lambda p: (p.line, p.column, p.message))) from error


def _follows(detail: Any, details: Sequence[Any]) -> bool:
    """Whether a list only seems too short because what it holds is wrong."""
    place = tuple(detail["loc"])
    return detail["type"] == "too_short" and any(
        len(each["loc"]) > len(place) and tuple(each["loc"][: len(place)]) == place for each in details
    )


def _problem(document: Document, model: type[BaseModel], detail: Any) -> Problem:
    kind = detail["type"]
    path = written(detail["loc"], document.value, missing=kind == "missing")
    if kind == "extra_forbidden":
        key = str(detail["loc"][-1])
        known = _keys_at(model, detail["loc"][:-1])
        close = difflib.get_close_matches(key, known, n=1)
        remedy = f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(known)}."
        return document.problem(path, f"unknown key {key!r}", remedy)
    if kind == "missing":
        return document.problem(path, "is missing", "Add it.")
    if kind == "value_error":
        text = str(detail["ctx"]["error"])
        message, _, remedy = text.partition(". ")
        return document.problem(path, message, remedy)
    if kind in _WANTED:
        return document.problem(path, f"is no {_WANTED[kind]}", _REMEDIES[kind])
    shown = repr(detail.get("input"))[:80]
    return document.problem(
        path, f"{detail['msg']}, not {shown}" if len(shown) < 60 else detail["msg"], _REMEDIES.get(kind, "")
    )


_WANTED = {"string_type": "text", "tuple_type": "list", "dict_type": "mapping", "model_type": "mapping"}
_REMEDIES = {
    "string_type": "Write a text; put it in quotes if it looks like a number.",
    "tuple_type": "Write a list: [a, b].",
    "dict_type": "Write a mapping of names to values.",
    "model_type": "Write a mapping of names to values.",
    "model_attributes_type": "Write a mapping of names to values.",
    "literal_error": "Choose one of the values named.",
    "enum": "Choose one of the values named.",
    "string_pattern_mismatch": "Use lower case letters, digits and _, beginning with a letter; dots between parts.",
    "too_short": "Add at least one.",
}


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names a mapping at this place may have."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            info = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
            current = info.annotation if info else None
        else:
            current = next((a for a in reversed(get_args(current)) if a is not Ellipsis), current)
        current = _without_none(current)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [f.alias or n for n, f in current.model_fields.items()]
    return []


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        return next((a for a in get_args(annotation) if a is not type(None)), annotation)
    return annotation
