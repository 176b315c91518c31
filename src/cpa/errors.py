"""Every error CPA raises on purpose, split by who can act on it.

    CPAError
    ├── BadInput            400  the caller: the text, file, message or argument is wrong
    │   ├── InvalidDocument 422  the caller: well-formed, but breaks its schema (LAM message, task graph, YAML)
    │   ├── UnknownIntent   422  the requester: no rule understood the sentence
    │   └── TooLarge        413  the caller: over a stated size limit
    ├── Unauthorized        401  the caller: no or a wrong credential
    ├── Forbidden           403  the caller: a right that this credential lacks
    ├── NotFound            404  the caller: no such job, artifact, agent (also: of another tenant)
    ├── Conflict            409  the caller: the state does not allow it, or the key is taken
    ├── Unavailable         503  the operator: draining, disk full, store closed; retry later
    │   └── NameNotResolved 503  the operator: the name servers do not answer in time
    ├── QuotaExceeded       507  the operator: all the room that is allowed is taken
    └── InternalError       500  the developer: an invariant does not hold

An error carries data, not only text: `field` (a path such as `tasks[2].depends_on`), `value` (what stood
there, shortened), and `remedy` (what to do next, a sentence). The API renders it as RFC 9457 problem+json,
the CLI as one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

_SHOWN = 200
_PASSING = (408, 425, 429, 502, 503, 504)
"""What HTTP says of a server, or of who stands before it, that could answer later (RFC 9110, 8470, 6585)."""


class CPAError(Exception):
    """Base of all errors raised on purpose.

    `code` is stable and machine-readable; `status` the HTTP status; `actor` who can mend it (caller,
    requester, operator, developer); `retryable` whether the same call may succeed later unchanged.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    actor: ClassVar[str] = "developer"
    retryable: ClassVar[bool] = False

    problems: tuple[object, ...] = ()
    """All that is wrong, where that is several things; each says itself as text."""

    def __init__(
        self, message: str, *, field: str | None = None, value: object = None, remedy: str | None = None
    ) -> None:
        self.message = writable(message)
        super().__init__(self.message)
        self.field = None if field is None else writable(field)
        self.value = _short(value)
        self.remedy = None if remedy is None else writable(remedy)

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field and not self.message.startswith(self.field) else ""
        todo = f" ({self.remedy})" if self.remedy and self.remedy != self.message else ""
        return f"{where}{self.message}{todo}"

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 body, without `instance`, which the API adds."""
        body: dict[str, Any] = {
            "type": f"urn:cpa:error:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": self.message,
            "code": self.code,
            "actor": self.actor,
            "retryable": self.retryable,
        }
        optional = {"field": self.field, "value": self.value, "remedy": self.remedy}
        return body | {key: value for key, value in optional.items() if value is not None}

    @classmethod
    def of_problem(cls, status: int, body: object) -> CPAError:
        """The error a problem document was made from; for what is none, the one that fits the HTTP status."""
        if not isinstance(body, dict):
            body = {}
        texts = (body.get(name) for name in ("detail", "title", "code"))
        detail = next((each for each in texts if isinstance(each, str) and each.strip()), "")
        if "code" not in body:
            return cls.of_status(status)(f"the server answered {status}{detail and f': {detail}'}")
        # Only who has a code of its own: others (that list several errors, say) are made differently.
        kinds = {kind.code: kind for kind in _tree(CPAError) if "code" in vars(kind)}
        kind = kinds.get(str(body["code"]), cls.of_status(status))
        found = kind(detail or f"the server answered {status}", **_said(body))
        errors = body.get("errors")
        if isinstance(errors, list) and len(errors) > 1:
            several = [each for each in errors if isinstance(each, dict) and "detail" in each]
            found.problems = tuple(InvalidDocument(str(each["detail"]), **_said(each)) for each in several)
        return found

    @staticmethod
    def of_status(status: int) -> type[CPAError]:
        """The kind of error that an HTTP status stands for."""
        if status in _PASSING:
            return Unavailable
        kinds = {kind.status: kind for kind in reversed(_tree(CPAError))}
        return kinds.get(status, InternalError if status >= 500 else BadInput)


class BadInput(CPAError):
    code, status, actor = "bad_input", 400, "caller"


class InvalidDocument(BadInput):
    code, status = "invalid_document", 422


class SeveralProblems(InvalidDocument):
    """Several things are wrong with a document; the first of `problems` is the headline."""

    problems: tuple[InvalidDocument, ...]

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        value: object = None,
        remedy: str | None = None,
        problems: Sequence[InvalidDocument] = (),
    ) -> None:
        super().__init__(message, field=field, value=value, remedy=remedy)
        self.problems = tuple(problems)

    def problem(self) -> dict[str, Any]:
        said = ("field", "detail", "value", "remedy")
        bodies = [each.problem() for each in self.problems]
        return super().problem() | {
            "errors": [{name: body[name] for name in said if name in body} for body in bodies]
        }


class UnknownIntent(BadInput):
    code, status, actor = "unknown_intent", 422, "requester"


class TooLarge(BadInput):
    code, status = "too_large", 413


class Unauthorized(CPAError):
    code, status, actor = "unauthorized", 401, "caller"


class Forbidden(CPAError):
    code, status, actor = "forbidden", 403, "caller"


class NotFound(CPAError):
    code, status, actor = "not_found", 404, "caller"


class Conflict(CPAError):
    code, status, actor = "conflict", 409, "caller"


class Unavailable(CPAError):
    code, status, actor, retryable = "unavailable", 503, "operator", True


class NameNotResolved(Unavailable):
    code = "name_not_resolved"


class QuotaExceeded(CPAError):
    code, status, actor = "quota_exceeded", 507, "operator"


class InternalError(CPAError):
    code = "internal"


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first, in a group of groups."""
    found = group.exceptions[0]
    return first_error(found) if isinstance(found, BaseExceptionGroup) else found


def _tree(kind: type[CPAError]) -> list[type[CPAError]]:
    """All classes below, parents first."""
    below = kind.__subclasses__()
    return [*below, *(found for child in below for found in _tree(child))]


def _said(body: dict[str, Any]) -> dict[str, Any]:
    """Of a problem document, or of one of its errors: where, what stood there, and what to do."""
    texts = {name: None if body.get(name) is None else str(body[name]) for name in ("field", "remedy")}
    return texts | {"value": body.get("value")}


def _short(value: object) -> str | None:
    """What stood there, as text of at most 200 characters; None stays None."""
    if value is None:
        return None
    try:
        text = writable(value if isinstance(value, str) else repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a bottomless list
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def writable(text: str) -> str:
    """The text with halves of character pairs spelled out: an error must be fit for every channel."""
    return text.encode("utf-8", "backslashreplace").decode()
