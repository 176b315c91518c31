"""Logs: one JSON object per line on standard error, or readable lines when a person looks at a terminal.

Every line carries what was bound to the current context (`correlation`, `job`, `task` …). Lines of other
libraries (uvicorn, SQLAlchemy) pass through the same chain. The last step before writing masks secrets:
every value known to the secrets manager, in plain, URL-coded, base64 and hexadecimal form, every API key of
ours, and every field whose name says that it holds a credential. Masking a line must not depend on who
wrote it, so it looks at values, not call sites.
"""

from __future__ import annotations

import base64
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from random import getrandbits
from typing import Any, Final, TextIO
from urllib.parse import quote, quote_plus

import msgspec
import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars, reset_contextvars

from cpa.errors import BadInput, writable

MASK: Final = "•••"
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_API_KEY = re.compile(r"cpa_[0-9A-Za-z]{20,}")
_CREDENTIAL = re.compile(
    r"pass(word|wd|phrase)?$|passwort|secret|credential|authorization|cookie|api[-_]?key|token$"
    r"|signature|private[-_]?key",
    re.IGNORECASE,
)
_SAFE_CORRELATION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CHATTY: Final = ("uvicorn.error", "httpx2", "httpcore2", "websockets", "aiosmtplib", "asyncio")
"""Libraries that tell every step at INFO or DEBUG; of them only warnings are of use."""
_SHORTEST = 4
"""Shorter secrets would mask half of every line; they are refused where secrets are set, not here."""
_DEEPEST = 8

Known = Callable[[], Iterable[str]]
"""Every secret value handed out so far."""


def configure(level: str = "INFO", *, known: Known = tuple, stream: TextIO | None = None) -> None:
    """Set up logging for the process; may be called again. `BadInput` for an unknown level."""
    name = level.upper()
    if name not in LEVELS:
        raise BadInput(
            "unknown log level", field="log_level", value=level, remedy=f"one of {', '.join(LEVELS)}"
        )
    target = stream if stream is not None else sys.stderr
    readable = target.isatty()
    shared: list[structlog.typing.Processor] = [
        merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                Masking(known),
                _readable() if readable else _json_line,
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(name)
    for library in ("uvicorn", "uvicorn.error", "uvicorn.access", "sqlalchemy", "alembic"):
        logger = logging.getLogger(library)
        logger.handlers.clear()
        logger.propagate = True
    for library in _CHATTY:
        logging.getLogger(library).setLevel(max(logging.getLevelNamesMapping()[name], logging.WARNING))
    # The door writes its own line per request, with the correlation id; uvicorn's would be a second one
    # without.
    logging.getLogger("uvicorn.access").propagate = False
    logging.getLogger("uvicorn.error").addFilter(_no_refusal)


def _no_refusal(record: logging.LogRecord) -> bool:
    """False for what uvicorn calls an error when a WebSocket was refused: anybody could fill the log with it."""
    return record.msg != "ASGI callable returned without completing handshake."


def correlation_id(offered: str | None = None) -> str:
    """The id offered by a caller if it is harmless, else a new one."""
    if offered is not None and _SAFE_CORRELATION.fullmatch(offered):
        return offered
    # No secret, and asking the system for chance lets other threads in, in the middle of every request.
    return f"{getrandbits(128):032x}"


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Every line written inside carries these values."""
    tokens = bind_contextvars(**values)
    try:
        yield
    finally:
        reset_contextvars(**tokens)


class Masking:
    """A processor that replaces secrets in every value of a line, however deep, by `MASK`, and spells out what
    UTF-8 cannot hold."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def __call__(self, _logger: object, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
        pattern = _pattern(frozenset(self._known()))
        return {key: self._masked(key, value, pattern, 0) for key, value in line.items()}

    def _masked(self, key: str, value: Any, pattern: re.Pattern[str], depth: int) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if _CREDENTIAL.search(key):
            return MASK
        if isinstance(value, str):
            return writable(pattern.sub(MASK, value))
        if depth < _DEEPEST and isinstance(value, Mapping):
            return {
                writable(pattern.sub(MASK, str(name))): self._masked(str(name), item, pattern, depth + 1)
                for name, item in value.items()
            }
        if depth < _DEEPEST and isinstance(value, (list, tuple, set, frozenset)):
            return [self._masked(key, item, pattern, depth + 1) for item in value]
        return writable(pattern.sub(MASK, str(value) if isinstance(value, BaseException) else repr(value)))


@lru_cache(maxsize=8)
def _pattern(known: frozenset[str]) -> re.Pattern[str]:
    forms = {form for value in known if len(value) >= _SHORTEST for form in _forms(value)}
    # Longest first, so that a secret that begins with another one is masked whole.
    words = "|".join(re.escape(form) for form in sorted(forms, key=lambda form: (-len(form), form)))
    return re.compile(f"{words}|{_API_KEY.pattern}" if words else _API_KEY.pattern)


def _forms(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogatepass")
    yield value
    yield repr(value)[1:-1]
    yield msgspec.json.encode(value.encode("utf-8", "replace").decode()).decode()[1:-1]
    yield quote(raw, safe="")
    yield quote_plus(raw)
    yield base64.b64encode(raw).decode().rstrip("=")
    yield base64.urlsafe_b64encode(raw).decode().rstrip("=")
    yield raw.hex()
    yield raw.hex().upper()


def _json_line(_logger: object, _method: str, line: Mapping[str, Any]) -> str:
    first = {name: line[name] for name in ("time", "level", "event") if name in line}
    rest = {name: value for name, value in line.items() if name not in first}
    return msgspec.json.encode({**first, **rest}, enc_hook=repr).decode()


def _readable() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        timestamp_key="time", colors=True, exception_formatter=structlog.dev.plain_traceback
    )
