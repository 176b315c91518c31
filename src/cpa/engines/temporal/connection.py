"""The way to the server, and what its refusals mean to people."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from ipaddress import ip_address

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client as Client
from temporalio.converter import DataConverter
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from cpa import __version__
from cpa.engines.temporal.codec import Codec
from cpa.engines.temporal.converter import converter
from cpa.engines.temporal.tls import Tls, refusal
from cpa.errors import BadInput, CPAError, TooLarge, Unavailable

ONE_CALL = timedelta(seconds=10)
"""How long one call to the server may take."""

STARTING = 30.0
"""Seconds in which a server that answers, and says that it is not ready yet, should be."""
_STARTS = "not healthy yet"
"""In what it says then."""
_PAUSE = 0.5
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"')
"""The system's own words in what the library says of a connection."""
_WRAPPED = ("ConnectError", "Status {")
"""In what the library says in words of its own."""
_OTHER = "h2 protocol error"
"""In what it says of an answer that is none of such a server: another program has the port, often its pages."""

IDENTITY = f"cpa-{__version__}"
"""What the server is told of who calls: it stands in every event, and the library would name the machine."""

LAST_BREATH = 0.3
"""Seconds the library's threads need in peace before the interpreter may end; else it sometimes crashes then. For
who uses this from a program of their own: `cli.ending` needs no pause."""


async def connect(
    address: str,
    namespace: str,
    *,
    tls: Tls | None = None,
    api_key: Callable[[], str] | None = None,
    codec: Codec | None = None,
) -> Client:
    """A connection that answers; a server that is just starting is waited for. `Unavailable` when none answers,
    `BadInput` when it lacks the namespace or something that is set cannot be right.

    `api_key` is resolved now; `codec` is around every value, and compresses only when there is none given.
    """
    now = asyncio.get_running_loop().time
    patient = now() + STARTING
    while True:
        try:
            client = await _connected(address, namespace, tls, api_key, converter(codec))
            await check(client)
        except CPAError as error:
            if _STARTS in error.message and now() < patient:
                await asyncio.sleep(_PAUSE)
                continue
            # Who is told that ends, most likely, and must not do so while the library is still at it.
            await asyncio.sleep(LAST_BREATH)
            raise
        return client


async def _connected(
    address: str,
    namespace: str,
    tls: Tls | None,
    api_key: Callable[[], str] | None,
    values: DataConverter,
) -> Client:
    if api_key is not None and tls is None and not is_loopback(address):
        raise BadInput(
            "an API key must not travel in plain text",
            field="temporal_tls",
            value=False,
            remedy="leave CPA_TEMPORAL_TLS empty or set it to true; only a server on this machine may do without",
        )
    if not address.rpartition(":")[2].isdecimal():
        raise _unreadable(address, "it names no port")
    try:
        async with asyncio.timeout(ONE_CALL.total_seconds()):
            return await Client.connect(
                address,
                namespace=namespace,
                data_converter=values,
                tls=False if tls is None else tls.config(),
                api_key=None if api_key is None else api_key(),
                identity=IDENTITY,
                runtime=_runtime(),
            )
    except (RuntimeError, TimeoutError) as error:
        raise await refusal(address, tls) or _silent(address, str(error)) from error
    except ValueError as error:
        raise _unreadable(address, str(error)) from error


def _unreadable(address: str, why: str) -> BadInput:
    return BadInput(
        f"the address of the Temporal server cannot be read: {why}",
        field="temporal_address",
        value=address,
        remedy="set CPA_TEMPORAL_ADDRESS to host:port, such as 127.0.0.1:7233",
    )


def codec_of(client: Client) -> Codec:
    """What is around the values of this connection."""
    codec = client.data_converter.payload_codec
    assert isinstance(codec, Codec)
    return codec


def is_loopback(address: str) -> bool:
    """Whether what goes to this `host:port` stays on this machine."""
    host = address.rsplit(":", 1)[0].strip("[]").lower()
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@cache
def _runtime() -> Runtime:
    """The library's threads. It prints to standard output, which belongs to whoever started us, and may be a pipe
    that nobody reads: with a server that is away for long it would be full, and all stand still. What it says of
    such a server our own log says, once. It would also tell the server of the machine now and then."""
    quiet = LoggingConfig("error,temporalio_client::retry=off")
    return Runtime(telemetry=TelemetryConfig(logging=quiet), worker_heartbeat_interval=None)


async def check(client: Client) -> None:
    """Raise unless the server answers and has the namespace."""
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        await client.workflow_service.describe_namespace(request, timeout=timedelta(seconds=5))
    except RPCError as error:
        raise trouble(error, client) from error


def trouble(error: RPCError, client: Client) -> CPAError:
    """The clear error for a call that failed."""
    address, said = client.service_client.config.target_host, error.message
    if error.status is RPCStatusCode.NOT_FOUND and "namespace" in said.lower():
        return BadInput(
            f"the Temporal server {address} has no namespace {client.namespace!r}",
            field="temporal_namespace",
            value=client.namespace,
            remedy=f"make it with `temporal operator namespace create --namespace {client.namespace}`, "
            "or set CPA_TEMPORAL_NAMESPACE to one that is there",
        )
    if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
        return Unavailable(
            f"the Temporal server {address} does not let us in: {said}",
            field="temporal_api_key",
            value=address,
            remedy="name a secret with a key that is valid there in CPA_TEMPORAL_API_KEY, and see that it may use "
            f"the namespace {client.namespace!r}",
        )
    if error.status is RPCStatusCode.INVALID_ARGUMENT and "size" in said.lower():
        return TooLarge(
            f"the Temporal server does not take a value of this size: {said}",
            remedy="pass large values as files, and split plans of many thousand tasks",
        )
    return _silent(address, said)


def _silent(address: str, said: str) -> Unavailable:
    if _OTHER in said:
        return Unavailable(
            f"at {address} answers something that is no Temporal server, or not at its port for gRPC",
            field="temporal_address",
            value=address,
            remedy="set CPA_TEMPORAL_ADDRESS to its port for gRPC: 7233 unless it was changed; 8233 has its pages",
        )
    found = _CAUSE.search(said) if any(sign in said for sign in _WRAPPED) else None
    reason = found[1].lower() if found else said.splitlines()[0][:160] if said else "no reason given"
    return Unavailable(
        f"the Temporal server {address} does not answer: {reason}",
        field="temporal_address",
        value=address,
        remedy="start it (`temporal server start-dev`), or set CPA_TEMPORAL_ADDRESS to one that runs; "
        "what was accepted goes on when it is back",
    )
