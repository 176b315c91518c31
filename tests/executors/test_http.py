"""The HTTP executor against a real server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import trustme
from tests.servers.http import Received, Route, WebService, response
from tests.servers.ports import free_port

from cpa.artifacts.folder import FolderArtifacts
from cpa.core.classes import EffectClass, FailureClass
from cpa.executors.http.answer import MAX_INLINE, retry_after
from cpa.executors.http.executor import HttpExecutor
from cpa.executors.redaction import LONGEST_MESSAGE
from cpa.ports.addresses import not_resolved
from cpa.ports.executor import ActionRequest, ExecutionResult, Verdict
from cpa.security.addresses import AddressGuard, Resolver
from cpa.security.secrets import EnvironmentAndFileSecrets

TOKEN = "hunter2-geheim+x/y"


@pytest.fixture
async def service() -> AsyncIterator[WebService]:
    async with WebService(
        {"/ok": response(b'{"antwort": "Gr\xc3\xbc\xc3\x9fe"}', kind="application/json")}
    ) as running:
        yield running


@pytest.fixture
def artifacts(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts", 64 * 1024 * 1024)


@pytest.fixture
def http(tmp_path: Path, artifacts: FolderArtifacts) -> HttpExecutor:
    return build(tmp_path, artifacts)


def build(
    tmp_path: Path, artifacts: FolderArtifacts, *, guard: AddressGuard | None = None, **options: Any
) -> HttpExecutor:
    secrets = EnvironmentAndFileSecrets(tmp_path / "secrets", environ={"CPA_SECRET_TOKEN": TOKEN})
    return HttpExecutor(guard or AddressGuard(["127.0.0.1", "localhost"]), artifacts, secrets, **options)


def call(
    url: str,
    method: str = "GET",
    *,
    effect: EffectClass | None = None,
    timeout: float = 10,
    tainted: Sequence[str] = (),
    **arguments: Any,
) -> ActionRequest:
    usual = EffectClass.UNSAFE if method in ("POST", "PATCH") else EffectClass.IDEMPOTENT
    return ActionRequest(
        tenant="default",
        job="0192",
        task="call",
        action="http.request",
        arguments={"url": url, "method": method, **arguments},
        effect=effect or usual,
        timeout=timeout,
        tainted=frozenset(tainted),
    )


def problem(result: ExecutionResult) -> tuple[FailureClass, str]:
    assert result.error is not None
    return result.error.failure, result.error.code


# -- what goes out -----------------------------------------------------------------------------------------------


async def test_json_answer_becomes_the_result(service: WebService, http: HttpExecutor) -> None:
    result = await http.execute(call(service.url("/ok?q=%C3%BC")))
    assert result.success, result.error
    assert result.result["json"] == {"antwort": "Grüße"}
    assert result.result["status"] == 200
    assert result.result["headers"]["content-type"] == "application/json"
    (got,) = service.received
    assert (got.method, got.target) == ("GET", "/ok?q=%C3%BC")
    assert got.headers["host"] == f"127.0.0.1:{service.port}"


async def test_idempotency_key_is_the_same_for_every_attempt(service: WebService, http: HttpExecutor) -> None:
    for _ in range(2):
        await http.execute(call(service.url("/ok"), "POST", json={"größe": [1, "zwei", None]}))
    first, second = service.received
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.headers["idempotency-key"] == call("", "POST").idempotency_key
    assert json.loads(first.body) == {"größe": [1, "zwei", None]}
    assert first.headers["content-type"] == "application/json"


async def test_form_is_sent_encoded(service: WebService, http: HttpExecutor) -> None:
    form = {"name": "Müller & Söhne", "menge": 3, "ja": True, "liste": ["a", "b"]}
    await http.execute(call(service.url("/ok"), "POST", form=form))
    (got,) = service.received
    assert got.body == b"name=M%C3%BCller+%26+S%C3%B6hne&menge=3&ja=true&liste=a&liste=b"


async def test_secret_is_sent_and_never_shown(service: WebService, http: HttpExecutor) -> None:
    async def echo(request: Received, writer: asyncio.StreamWriter) -> None:
        seen = {"you sent": request.headers["authorization"], request.headers["authorization"]: 1}
        writer.write(response(json.dumps(seen).encode(), kind="application/json", headers={"X-Echo": TOKEN}))

    service.routes["/echo"] = echo
    service.routes["/no"] = response(
        f"bad token {TOKEN}".encode(), status="401 Unauthorized", kind="text/plain"
    )
    headers = {"Authorization": {"secret": "token", "prefix": "Bearer "}}
    good = await http.execute(call(service.url("/echo"), headers=headers))
    bad = await http.execute(call(service.url("/no"), headers=headers))
    assert [each.headers["authorization"] for each in service.received] == [f"Bearer {TOKEN}"] * 2
    assert TOKEN not in repr(good)
    assert TOKEN not in repr(bad)
    assert problem(bad) == (FailureClass.BUSINESS, "http_401")


def spellings(secret: str) -> str:
    basic = base64.b64encode(f"user:{secret}".encode()).decode()
    escaped = json.dumps(secret)[1:-1].replace("/", "\\/")
    return f"{secret} {quote(secret, safe='')} {quote_plus(secret)} {escaped} {secret.encode().hex()} {basic}"


def shown_by(result: ExecutionResult, secret: str) -> list[str]:
    """The spellings of the secret that the result holds."""
    seen = repr(result) + json.dumps(result.result)
    *whole, basic = spellings(secret).split()
    return [each for each in [*whole, basic[8:-4]] if each in seen]


@pytest.mark.parametrize("where", ["schema", "enum", "redirect", "broken", "header", "error", "text", "json"])
async def test_no_spelling_of_a_secret_comes_back(
    service: WebService, http: HttpExecutor, where: str
) -> None:
    async def echo(request: Received, writer: asyncio.StreamWriter) -> None:
        sent = request.headers["authorization"]
        if where in ("schema", "enum", "json"):
            writer.write(
                response(json.dumps({"x": spellings(sent), sent: 1}).encode(), kind="application/json")
            )
        elif where == "redirect":
            there = f"https://other.example/{quote(sent, safe='')}?{spellings(TOKEN).replace(' ', '&')}"
            writer.write(response(status="302 Found", headers={"Location": there}))
        elif where == "broken":
            writer.write(b"HTTP/1.1 200 OK\r\nX y: " + spellings(sent).encode() + b"\r\n\r\n")
        elif where == "header":
            writer.write(response(headers={"X-Echo": spellings(sent)}))
        else:
            status = "400 Bad Request" if where == "error" else "200 OK"
            padded = "x" * 500 + spellings(sent) if where == "error" else spellings(sent)
            writer.write(response(padded.encode(), status=status, kind="text/plain"))
        await writer.drain()
        writer.close()

    service.routes["/echo"] = echo
    schema = {"schema": {"type": "array"}, "enum": {"properties": {"x": {"enum": ["x" * 150]}}}}.get(where)
    arguments: dict[str, Any] = {} if schema is None else {"schema": schema}
    headers = {"Authorization": {"secret": "token", "prefix": "Bearer "}}
    result = await http.execute(call(service.url("/echo"), headers=headers, **arguments))
    assert shown_by(result, TOKEN) == []
    assert "[secret]" in repr(result) + json.dumps(result.result)
    if result.error is not None:
        assert len(result.error.message) <= LONGEST_MESSAGE


async def test_secret_reference_from_outside_is_never_filled_in(
    service: WebService, http: HttpExecutor
) -> None:
    for name in ("json", "form"):
        arguments: dict[str, Any] = {name: {"x": {"secret": "token"}}}
        result = await http.execute(call(service.url("/ok"), "POST", tainted=[f"{name}.x"], **arguments))
        assert problem(result) == (FailureClass.POLICY, "tainted_secret")
    assert service.received == []


async def test_own_header_takes_the_place_of_the_usual_one(service: WebService, http: HttpExecutor) -> None:
    headers = {"accept": "text/csv", "idempotency-key": "mein-eigener", "X-Zahl": 7}
    await http.execute(call(service.url("/ok"), headers=headers))
    (got,) = service.received
    assert (got.headers["accept"], got.headers["idempotency-key"]) == ("text/csv", "mein-eigener")
    assert got.headers["x-zahl"] == "7"


async def test_missing_secret_names_where_to_set_it(service: WebService, http: HttpExecutor) -> None:
    result = await http.execute(call(service.url("/ok"), headers={"X-Key": {"secret": "fehlt"}}))
    assert problem(result) == (FailureClass.BUSINESS, "not_found")
    assert result.error is not None
    assert "CPA_SECRET_FEHLT" in result.error.remedy


@pytest.mark.parametrize("name", ["method", "url", "headers", "headers.X-Key", "schema", "save"])
async def test_control_from_outside_is_against_the_policy(
    service: WebService, http: HttpExecutor, name: str
) -> None:
    result = await http.execute(call(service.url("/ok"), tainted=[name]))
    assert problem(result) == (FailureClass.POLICY, "tainted_argument")
    assert service.received == []


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("TRACE", {}),
        ("GET /x HTTP/1.1\r\n", {}),
        ("GET", {"json": {}}),
        ("POST", {"json": {}, "form": {}}),
        ("POST", {"json": float("nan")}),
        ("POST", {"form": "a=b"}),
        ("POST", {"form": {"a": {"b": 1}}}),
        ("GET", {"headers": {"X-A": "b\r\nX-Evil: 1"}}),
        ("GET", {"headers": {"X-A\r\nX-Evil": "1"}}),
        ("GET", {"headers": {"Host": "intern"}}),
        ("POST", {"headers": {"Transfer-Encoding": "chunked"}}),
        ("GET", {"headers": ["a"]}),
        ("GET", {"headers": {"X-A": "ü"}}),
        ("GET", {"schema": "string"}),
        ("GET", {"save": 1}),
    ],
)
async def test_bad_argument_is_named_and_nothing_is_sent(
    service: WebService, http: HttpExecutor, method: str, arguments: dict[str, Any]
) -> None:
    result = await http.execute(call(service.url("/ok"), method, **arguments))
    assert problem(result) == (FailureClass.BUSINESS, "bad_argument")
    assert result.error is not None
    assert result.error.remedy
    assert service.received == []


# -- where it goes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
async def test_private_address_is_refused_unless_allowed(
    tmp_path: Path, artifacts: FolderArtifacts, service: WebService, host: str
) -> None:
    strict = build(tmp_path, artifacts, guard=AddressGuard())
    result = await strict.execute(call(service.url("/ok", host=host)))
    assert problem(result) == (FailureClass.POLICY, "forbidden")
    assert result.error is not None
    assert "allow_private" in result.error.remedy
    assert service.received == []


async def test_connection_goes_to_the_checked_address_in_the_name_of_the_host(
    tmp_path: Path, artifacts: FolderArtifacts, service: WebService
) -> None:
    """The name does not exist in any name server: only the pinned address can have been used."""
    asked = 0

    async def resolver(host: str, port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.1"]

    pinned = build(tmp_path, artifacts, guard=AddressGuard(["portal.invalid"], resolver=resolver))
    result = await pinned.execute(call(service.url("/ok", host="Portal.invalid")))
    assert result.success, result.error
    assert asked == 1
    assert service.received[0].headers["host"] == f"portal.invalid:{service.port}"


async def test_second_address_is_used_when_the_first_refuses(
    tmp_path: Path, artifacts: FolderArtifacts, service: WebService
) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    guard = AddressGuard(["portal.invalid"], resolver=resolver)
    result = await build(tmp_path, artifacts, guard=guard).execute(
        call(service.url("/ok", host="portal.invalid"))
    )
    assert result.success, result.error


@pytest.mark.parametrize(
    ("certified", "code"), [("portal.invalid", ""), ("anderer.invalid", "http_tls_failed")]
)
async def test_certificate_is_checked_against_the_name(
    tmp_path: Path, artifacts: FolderArtifacts, certified: str, code: str
) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(certified).configure_cert(server)
    authority.configure_trust(client)

    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    guard = AddressGuard(["portal.invalid"], resolver=resolver)
    async with WebService({"/ok": response(b"1", kind="application/json")}, tls=server) as secure:
        https = build(tmp_path, artifacts, guard=guard, tls=client)
        result = await https.execute(call(secure.url("/ok", scheme="https", host="portal.invalid")))
    if code:
        assert problem(result) == (FailureClass.BUSINESS, code)
    else:
        assert result.result["json"] == 1


async def test_redirect_within_the_origin_is_followed(service: WebService, http: HttpExecutor) -> None:
    service.routes["/old"] = response(status="302 Found", headers={"Location": "/ok"})
    result = await http.execute(call(service.url("/old")))
    assert result.result["json"] == {"antwort": "Grüße"}


@pytest.mark.parametrize(
    ("method", "location", "code"),
    [
        ("GET", "http://169.254.169.254/latest", "redirect_refused"),
        ("GET", "//evil.example/", "redirect_refused"),
        ("GET", "file:///etc/passwd", "redirect_refused"),
        ("GET", "http://[", "redirect_refused"),
        ("GET", "", "redirect_refused"),
        ("POST", "/ok", "redirect_refused"),
        ("GET", "/old", "too_many_redirects"),
    ],
)
async def test_other_redirects_are_answers_not_orders(
    service: WebService, http: HttpExecutor, method: str, location: str, code: str
) -> None:
    service.routes["/old"] = response(status="307 Temporary Redirect", headers={"Location": location})
    result = await http.execute(call(service.url("/old"), method))
    assert problem(result) == (FailureClass.BUSINESS, code)
    assert len(service.received) == (6 if code == "too_many_redirects" else 1)


# -- what comes back ---------------------------------------------------------------------------------------------


async def test_answer_within_the_schema_passes(service: WebService, http: HttpExecutor) -> None:
    schema = {"type": "object", "required": ["antwort"], "properties": {"antwort": {"type": "string"}}}
    result = await http.execute(call(service.url("/ok"), schema=schema))
    assert result.result["json"] == {"antwort": "Grüße"}


async def test_answer_against_the_schema_names_the_place(service: WebService, http: HttpExecutor) -> None:
    result = await http.execute(
        call(service.url("/ok"), schema={"properties": {"antwort": {"type": "number"}}})
    )
    assert problem(result) == (FailureClass.BUSINESS, "schema_mismatch")
    assert result.error is not None
    assert "$.antwort" in result.error.message


@pytest.mark.parametrize(
    "schema", [{"type": "zahl"}, {"$ref": "http://127.0.0.1:1/schema"}, {"$ref": "#/$defs/fehlt"}]
)
async def test_unusable_schema_is_a_bad_argument_and_fetches_nothing(
    service: WebService, http: HttpExecutor, schema: dict[str, Any]
) -> None:
    result = await http.execute(call(service.url("/ok"), schema=schema))
    assert problem(result) == (FailureClass.BUSINESS, "bad_argument")


@pytest.mark.parametrize("body", [b"<html>Login</html>", b"{", b"[NaN]", b"[" * 100_000])
async def test_body_that_only_claims_to_be_json_is_refused(
    service: WebService, http: HttpExecutor, body: bytes
) -> None:
    service.routes["/liar"] = response(body, kind="application/json")
    result = await http.execute(call(service.url("/liar"), schema={}))
    assert problem(result) == (FailureClass.BUSINESS, "invalid_json")


async def test_large_or_binary_answers_become_files(
    service: WebService, http: HttpExecutor, artifacts: FolderArtifacts
) -> None:
    pdf, large = b"%PDF\x00\xff", json.dumps(["ü" * 100] * 1000).encode()
    service.routes |= {
        "/rechnung.pdf": response(pdf, kind="application/pdf"),
        "/large": response(large, kind="application/json"),
        "/text": response("Grüße".encode("latin-1"), kind="text/plain; charset=iso-8859-1"),
        "/empty": response(status="204 No Content"),
    }
    for path, content in (("/rechnung.pdf", pdf), ("/large", large)):
        result = await http.execute(call(service.url(path)))
        assert await artifacts.read("default", result.result["file"]["artifact"]) == content
        assert result.artifacts == (result.result["file"]["artifact"],)
    assert len(large) > MAX_INLINE
    checked = await http.execute(call(service.url("/large"), schema={"type": "array"}))
    assert checked.result["file"]["size"] == len(large)
    saved = await http.execute(call(service.url("/rechnung.pdf"), save=True))
    assert saved.result["file"]["name"] == "rechnung.pdf"
    named = await http.execute(call(service.url("/text"), save="Notiz.txt"))
    assert named.result["file"]["name"] == "Notiz.txt"
    assert (await http.execute(call(service.url("/text")))).result["text"] == "Grüße"
    assert (await http.execute(call(service.url("/empty")))).result["text"] == ""


async def test_many_headers_do_not_fill_the_result(service: WebService, http: HttpExecutor) -> None:
    many = {f"X-{number}": "y" * 600 for number in range(90)}
    service.routes["/many"] = response(b"x", kind="text/plain", headers=many)
    result = await http.execute(call(service.url("/many")))
    assert 5_000 < len(json.dumps(result.result)) < 12_000


async def test_endless_answer_is_cut_off(
    tmp_path: Path, artifacts: FolderArtifacts, service: WebService
) -> None:
    async def endless(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    service.routes["/endless"] = endless
    small = build(tmp_path, artifacts, max_response=1024 * 1024)
    result = await small.execute(call(service.url("/endless")))
    assert problem(result) == (FailureClass.BUSINESS, "response_too_large")


@pytest.mark.parametrize(
    ("status", "method", "failure"),
    [
        ("400 Bad Request", "GET", FailureClass.BUSINESS),
        ("404 Not Found", "POST", FailureClass.BUSINESS),
        ("501 Not Implemented", "GET", FailureClass.BUSINESS),
        ("429 Too Many Requests", "POST", FailureClass.TECHNICAL),
        ("503 Service Unavailable", "POST", FailureClass.UNKNOWN_OUTCOME),
        ("503 Service Unavailable", "PUT", FailureClass.TECHNICAL),
        ("408 Request Timeout", "POST", FailureClass.UNKNOWN_OUTCOME),
        ("408 Request Timeout", "GET", FailureClass.TECHNICAL),
        ("520 Web Server Returned an Unknown Error", "POST", FailureClass.UNKNOWN_OUTCOME),
        ("500 Internal Server Error", "GET", FailureClass.TECHNICAL),
        ("500 Internal Server Error", "POST", FailureClass.UNKNOWN_OUTCOME),
        ("502 Bad Gateway", "PUT", FailureClass.TECHNICAL),
        ("504 Gateway Timeout", "PATCH", FailureClass.UNKNOWN_OUTCOME),
    ],
)
async def test_every_status_gets_its_class(
    service: WebService, http: HttpExecutor, status: str, method: str, failure: FailureClass
) -> None:
    service.routes["/status"] = response(
        b'{"detail": "so nicht"}', status=status, kind="application/problem+json"
    )
    result = await http.execute(call(service.url("/status"), method))
    assert problem(result) == (failure, f"http_{status[:3]}")
    assert result.error is not None
    assert "so nicht" in result.error.message


async def test_a_service_in_trouble_cannot_promise_that_it_did_nothing(
    service: WebService, http: HttpExecutor
) -> None:
    service.routes["/busy"] = response(status="503 Service Unavailable", headers={"Retry-After": "1"})
    result = await http.execute(call(service.url("/busy"), "POST"))
    assert problem(result) == (FailureClass.UNKNOWN_OUTCOME, "http_503")
    known = await http.execute(call(service.url("/busy"), "POST", effect=EffectClass.IDEMPOTENT))
    assert problem(known) == (FailureClass.TECHNICAL, "http_503")


async def test_retry_after_is_passed_on(service: WebService, http: HttpExecutor) -> None:
    service.routes["/busy"] = response(status="503 Service Unavailable", headers={"Retry-After": "17"})
    result = await http.execute(call(service.url("/busy")))
    assert result.error is not None
    assert result.error.retry_after == 17


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Tue, 24 Nov 2026 08:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 07:00:00 GMT", 0.0),
        ("bald", None),
        ("", None),
        ("-5", None),
    ],
)
def test_retry_after_as_a_date_counts_from_the_services_own_clock(said: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": said, "date": "Tue, 24 Nov 2026 08:00:00 GMT"}) == seconds


# -- what breaks -------------------------------------------------------------------------------------------------


async def hang_up(request: Received, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def half(request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def nonsense(request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\x01 this is no HTTP\r\n\r\n")
    await writer.drain()


async def silence(request: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("fault", [hang_up, half, nonsense, silence])
@pytest.mark.parametrize(
    ("method", "effect", "failure"),
    [
        ("GET", None, FailureClass.TECHNICAL),
        ("POST", None, FailureClass.UNKNOWN_OUTCOME),
        ("POST", EffectClass.IDEMPOTENT, FailureClass.TECHNICAL),
    ],
)
async def test_break_after_the_request_was_sent_depends_on_the_effect(
    service: WebService,
    http: HttpExecutor,
    fault: Callable[[Received, asyncio.StreamWriter], Awaitable[None]],
    method: str,
    effect: EffectClass | None,
    failure: FailureClass,
) -> None:
    route: Route = fault
    service.routes["/fault"] = route
    result = await http.execute(call(service.url("/fault"), method, effect=effect, timeout=0.5))
    assert problem(result)[0] is failure
    assert len(service.received) == 1


async def test_refused_connection_is_technical_even_for_post(http: HttpExecutor) -> None:
    result = await http.execute(call(f"http://127.0.0.1:{free_port()}/", "POST"))
    assert problem(result) == (FailureClass.TECHNICAL, "http_unreachable")


async def test_server_that_never_greets_is_technical_over_tls(http: HttpExecutor) -> None:
    """The request cannot have left before the handshake ended."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}/"
        result = await http.execute(call(url, "POST", timeout=0.5))
    assert problem(result)[0] is FailureClass.TECHNICAL


async def test_unknown_host_is_technical(http: HttpExecutor) -> None:
    result = await http.execute(call("http://gibt-es-nicht.invalid/"))
    assert problem(result) == (FailureClass.TECHNICAL, "dns_failed")


async def unanswered(host: str, port: int = 0) -> Sequence[str]:
    raise not_resolved(host)


async def silent(host: str, port: int) -> Sequence[str]:
    await asyncio.sleep(20)
    return []


@pytest.mark.parametrize("resolver", [unanswered, silent])
async def test_a_name_that_nobody_answers_for_is_told_as_such(
    tmp_path: Path, artifacts: FolderArtifacts, resolver: Resolver
) -> None:
    """Whichever ends first: the task, or the patience with name servers. The service is not to blame."""
    http = build(tmp_path, artifacts, guard=AddressGuard(resolver=resolver))
    result = await http.execute(call("http://portal.example/", "POST", timeout=0.3))
    assert problem(result) == (FailureClass.TECHNICAL, "name_not_resolved")
    assert result.error is not None
    assert result.error.message == "the name portal.example was not resolved in time"
    assert "name servers" in result.error.remedy
    assert result.error.retry_after


async def test_only_idempotent_requests_can_be_called_absent(http: HttpExecutor) -> None:
    assert (await http.verify(call("http://x.example/"))).verdict is Verdict.ABSENT
    told = await http.verify(call("http://x.example/", "POST"))
    assert (told.verdict, told.look_again) == (Verdict.UNKNOWN, None)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("999999999", 3600.0),
        ("99999999999999999999", 3600.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("²", None),
        ("٣", None),
        ("-5", None),
        ("1e3", None),
        ("Fri, 31 Dec 9999 23:59:59 -9999", None),
    ],
)
def test_a_service_cannot_make_us_wait_for_ever(said: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": said}) == seconds
