"""Routes that FastAPI documents, Starlette finds and we call.

FastAPI's solver walks the tree of dependencies anew for every request, and its included routers match each path
twice; for a small request that is most of the time it takes. The parameters of a route are known when it is made,
so each gets its reader then: the caller first (nothing of a request is looked at before it is known who asks), then
services, path, query and header. Errors of all query parameters are told together.

What FastAPI makes of a route to document it (a model of each answer, a tree of parameters) is made when the
documentation is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, get_type_hints

from fastapi import APIRouter, Request, Response
from fastapi.params import Depends, Header, Query
from pydantic import TypeAdapter, ValidationError
from starlette.routing import BaseRoute, Route, WebSocketRoute, compile_path
from starlette.websockets import WebSocket

from cpa.api.problems import Invalid
from cpa.api.services import provide_services, services_of

_Read = Callable[[Request], Any]
_Identify = Callable[[Request, str | None], Awaitable[Any]]
KEY_HEADER: Final = "x-api-key"


class DirectRouter(APIRouter):
    """Routes whose functions take the request, services, the caller, path texts, query values and headers."""

    def __init__(self, *, prefix: str = "", tags: Sequence[str] = ()) -> None:
        super().__init__(prefix=prefix, tags=list(tags))
        self._about: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **about: Any) -> None:
        """What `get`, `post` and `delete` call."""
        whole, methods = self.prefix + path, set(about["methods"])
        route = Route(whole, _Call(endpoint, compile_path(whole)[2]).handle)
        route.methods = methods  # Starlette would answer HEAD too, by doing all the work of GET.
        self.routes.append(route)
        self._about.append((path, endpoint, about))

    def add_api_websocket_route(
        self, path: str, endpoint: Callable[..., Awaitable[None]], name: str | None = None, **about: Any
    ) -> None:
        """What `websocket` calls. The function takes the socket and the texts of the path."""

        async def session(socket: WebSocket) -> None:
            await endpoint(socket, **socket.path_params)

        self.routes.append(WebSocketRoute(self.prefix + path, session, name=name))

    def documented(self) -> list[BaseRoute]:
        """The same routes as FastAPI sees them."""
        plain = APIRouter(prefix=self.prefix, tags=self.tags)
        for path, endpoint, about in self._about:
            plain.add_api_route(path, endpoint, **about)
        return plain.routes


class _Call:
    def __init__(self, endpoint: Callable[..., Any], path: Mapping[str, object]) -> None:
        self._endpoint = endpoint
        self._callers: list[tuple[str, _Identify]] = []
        self._plain: list[tuple[str, _Read]] = []
        self._queries: list[tuple[str, TypeAdapter[Any], Any]] = []
        hints = get_type_hints(endpoint, include_extras=True)
        for name, parameter in inspect.signature(endpoint).parameters.items():
            self._add(name, hints[name], parameter.default, in_path=name in path)

    def _add(self, name: str, hint: Any, default: Any, *, in_path: bool) -> None:
        marks = getattr(hint, "__metadata__", ())
        depends = next((mark for mark in marks if isinstance(mark, Depends)), None)
        header = next((mark for mark in marks if isinstance(mark, Header)), None)
        if hint is Request:
            self._plain.append((name, lambda request: request))
        elif depends is not None and depends.dependency is provide_services:
            self._plain.append((name, services_of))
        elif depends is not None and depends.dependency is not None:
            self._callers.append((name, depends.dependency))
        elif in_path:
            self._plain.append((name, lambda request: request.path_params[name]))
        elif header is not None:
            alias = str(header.alias)
            self._plain.append((name, lambda request: request.headers.get(alias)))
        else:
            query = next((mark for mark in marks if isinstance(mark, Query)), None)
            assert query is not None or not marks, f"{self._endpoint.__name__}: cannot read {name}"
            self._queries.append((name, TypeAdapter(hint), default))

    async def handle(self, request: Request) -> Response:
        arguments: dict[str, Any] = {}
        for name, identify in self._callers:
            arguments[name] = await identify(request, request.headers.get(KEY_HEADER))
        for name, read in self._plain:
            arguments[name] = read(request)
        if self._queries:
            self._read_queries(request, arguments)
        response: Response = await self._endpoint(**arguments)
        return response

    def _read_queries(self, request: Request, arguments: dict[str, Any]) -> None:
        given, broken = request.query_params if request.scope["query_string"] else {}, []
        for name, adapter, default in self._queries:
            value = given.get(name)
            if value is None:
                arguments[name] = default
                continue
            try:
                arguments[name] = adapter.validate_python(value)
            except ValidationError as error:
                found = error.errors(include_url=False, include_context=False)
                broken += [{**place, "loc": ("query", name, *place["loc"])} for place in found]
        if broken:
            raise Invalid(broken)
