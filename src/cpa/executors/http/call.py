"""What an `http.request` asks for: arguments read, checked, secrets filled in.

A secret is filled in where the plan's author put its reference, and nowhere else: a value from outside that
happens to look like a reference (`{"secret": "…"}` in a page's JSON) would otherwise carry our own
credentials to whoever wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from cpa.executors.arguments import bad_argument, policy, text
from cpa.ports.executor import ActionRequest
from cpa.ports.secrets import SecretsManager

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"}
)
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, ready to be sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    schema: Mapping[str, Any] | bool | None
    save: str | None
    """Name under which the body becomes a file; empty takes it from the URL; None keeps it in the result."""

    @property
    def shown(self) -> str:
        """The URL for messages: without query, where credentials sometimes are."""
        return self.url.partition("?")[0][:200]


def read_call(request: ActionRequest, secrets: SecretsManager) -> Call:
    """Read the arguments; raises `Stopped` naming the argument."""
    filler = _Filler(request, secrets)
    method = text(request, "method", "GET").upper()
    if method not in METHODS:
        raise bad_argument(request, "method", f"is '{method}'", f"use one of {', '.join(METHODS)}")
    headers = _headers(request, filler)
    body, kind = _body(request, filler, method)
    named = {name.lower() for name in headers}
    if kind and "content-type" not in named:
        headers["Content-Type"] = kind
    if "idempotency-key" not in named:
        headers["Idempotency-Key"] = request.idempotency_key
    return Call(
        method=method,
        url=text(request, "url"),
        headers=headers,
        body=body,
        schema=_schema(request),
        save=_save(request),
    )


def _headers(request: ActionRequest, filler: _Filler) -> dict[str, str]:
    given = request.arguments.get("headers") or {}
    if not isinstance(given, Mapping):
        raise bad_argument(request, "headers", "must be a mapping", "write them as name: value")
    headers: dict[str, str] = {}
    for name, raw in given.items():
        value = filler.fill("headers", raw)
        value = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise bad_argument(request, "headers", f"have the impossible name {name!r:.60}", "correct it")
        if name.lower() in _OURS:
            raise bad_argument(request, "headers", f"may not set '{name}'", "leave it out: it is set for you")
        # The value may be a secret: it is not shown.
        if not isinstance(value, str) or _BAD_VALUE.search(value) or not _latin(value):
            raise bad_argument(
                request,
                "headers",
                f"have an impossible value for '{name}'",
                "write it as one line of ASCII text",
            )
        headers[name] = value
    return headers


def _latin(value: str) -> bool:
    return value.isascii() and value == value.strip()


def _body(request: ActionRequest, filler: _Filler, method: str) -> tuple[bytes | None, str]:
    """Body and media type; None and empty when there is none."""
    has_json = request.arguments.get("json") is not None
    has_form = request.arguments.get("form") is not None
    if not has_json and not has_form:
        return None, ""
    if has_json and has_form:
        raise bad_argument(request, "json", "and 'form' exclude each other", "give one of them")
    if method in ("GET", "HEAD"):
        name = "json" if has_json else "form"
        raise bad_argument(
            request, name, f"cannot go with {method}", "use POST or PUT, or put it into the URL"
        )
    if has_json:
        value = filler.fill("json", request.arguments["json"])
        try:
            content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise bad_argument(request, "json", f"is not JSON: {error}", "give JSON values only") from error
        return content, "application/json"
    return _form(request, filler), "application/x-www-form-urlencoded"


def _form(request: ActionRequest, filler: _Filler) -> bytes:
    given = filler.fill("form", request.arguments["form"])
    if not isinstance(given, Mapping):
        raise bad_argument(request, "form", "must be a mapping", "write it as name: value")
    fields: list[tuple[str, str]] = []
    for name, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, bool):
                each = "true" if each else "false"
            if not isinstance(each, str | int | float):
                raise bad_argument(
                    request, "form", f"has no text for '{name}'", "give texts and numbers only"
                )
            fields.append((str(name), str(each)))
    return urlencode(fields).encode()


def _schema(request: ActionRequest) -> Mapping[str, Any] | bool | None:
    schema = request.arguments.get("schema")
    if schema is not None and not isinstance(schema, Mapping | bool):
        raise bad_argument(request, "schema", "must be a JSON Schema", "write it as an object")
    return schema


def _save(request: ActionRequest) -> str | None:
    save = request.arguments.get("save")
    if save is None or save is False:
        return None
    if save is True:
        return urlsplit(text(request, "url")).path.rpartition("/")[2]
    if not isinstance(save, str):
        raise bad_argument(request, "save", "must be true or a file name", "write true")
    return save


class _Filler:
    """Replaces references to secrets by their values, except in what came from outside."""

    def __init__(self, request: ActionRequest, secrets: SecretsManager) -> None:
        self._request = request
        self._secrets = secrets
        self._tainted = {re.split(r"[.\[]", name, maxsplit=1)[0] for name in request.tainted}

    def fill(self, argument: str, value: object, depth: int = 0) -> Any:
        """The value with secrets in it; `{"secret": name, "prefix": "Bearer "}` puts a text before one."""
        if depth > _MAX_DEPTH:
            raise bad_argument(self._request, argument, f"is nested deeper than {_MAX_DEPTH}", "flatten it")
        if isinstance(value, Mapping):
            if "secret" in value and set(value) <= {"secret", "prefix"}:
                return self._secret(argument, value)
            return {key: self.fill(argument, each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.fill(argument, each, depth + 1) for each in value]
        return value

    def _secret(self, argument: str, reference: Mapping[Any, Any]) -> str:
        name, prefix = reference["secret"], reference.get("prefix", "")
        if argument in self._tainted:
            raise policy(
                "tainted_secret",
                f"the argument '{argument}' holds a reference to a secret and comes from outside",
                remedy="name secrets in the plan only, not in values from mails, pages or documents",
                argument=argument,
            )
        if not isinstance(name, str) or not isinstance(prefix, str):
            raise bad_argument(
                self._request, argument, "has a secret whose name is no text", "name the secret"
            )
        return prefix + self._secrets.resolve(self._request.tenant, name)
