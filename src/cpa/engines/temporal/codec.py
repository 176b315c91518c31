"""What stands around every value on its way to the server and back: nothing else knows of it.

    value -> zlib, where that helps -> AES-256-GCM, with keys -> a reference, above 64 KiB

Each layer is a payload that holds the one below, and says in its metadata which it is; so what was written
under other settings can still be read. One thing is not taken on trust: with keys a value that is not encrypted is
refused, for anybody who may write into the namespace could have made it. `plain` lets it in, for jobs that began
before there were keys. The id of the key stands in clear and is authenticated. What goes by reference is kept until
nothing of its job is left at the server (`upkeep`).

A value that cannot be read just now, because a key or a file is missing, fails the workflow task and nothing more:
the job waits, `hindrances` has the reason, and `waking` sees to it that it goes on.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ActivitySerializationContext,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)

from cpa.engines.temporal.hindrances import Hindrance, Hindrances
from cpa.engines.temporal.keyring import KeyRing, missing
from cpa.errors import CPAError, InternalError, NotFound, TooLarge, Unavailable
from cpa.ports.claims import ClaimStore

T = TypeVar("T")
ZLIB, SEALED, CLAIM = b"binary/zlib", b"binary/cpa-sealed", b"binary/cpa-claim"
_KEY = "key"
_SMALL = 2_000
"""Bytes below which compressing saves nothing."""
INLINE = 64 * 1024
"""Bytes of the most that goes through the server itself."""
MOST = 256 * 1024 * 1024
"""Bytes of the largest value, before it is compressed: a broken one must not fill the memory either."""
_BIG = 256 * 1024
"""Bytes from which on work is done in a thread, so that others go on meanwhile."""


class Reference(msgspec.Struct, frozen=True):
    job: str
    digest: str


class Codec(PayloadCodec, WithSerializationContext):
    """Without keys it only compresses, without a store of claims everything goes through the server. With keys and
    `plain` what is not encrypted is read as well."""

    def __init__(
        self, keys: KeyRing | None = None, claims: ClaimStore | None = None, *, plain: bool = False
    ) -> None:
        self._keys, self._claims, self._plain = keys, claims, plain
        self._job = ""
        self._hindrances: Hindrances | None = None

    def with_context(self, context: SerializationContext) -> Codec:
        """One that knows whose values these are, and is the same otherwise."""
        job = None
        if isinstance(context, WorkflowSerializationContext | ActivitySerializationContext):
            job = context.workflow_id
        bound = Codec(self._keys, self._claims, plain=self._plain)
        bound._job, bound._hindrances = job or "", self._hindrances
        return bound

    def noting(self, hindrances: Hindrances) -> Codec:
        """The same for who works: what it cannot read or write of a job hinders the job."""
        found = Codec(self._keys, self._claims, plain=self._plain)
        found._hindrances = hindrances
        return found

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [await self._noted(payload, self._encoded, writing=True) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [await self._noted(payload, self._decoded) for payload in payloads]

    async def _noted(
        self, payload: Payload, work: Callable[[Payload], Awaitable[Payload]], *, writing: bool = False
    ) -> Payload:
        if self._hindrances is None or not self._job:
            return await work(payload)
        try:
            done = await work(payload)
        except CPAError as error:
            self._hindrances.note(self._job, Hindrance(error, payload, writing))
            raise
        self._hindrances.gone(self._job, payload)
        return done

    # -- there ---------------------------------------------------------------------------------------------

    async def _encoded(self, payload: Payload) -> Payload:
        size = payload.ByteSize()
        if size > MOST:
            raise TooLarge(
                f"one value of a job may have at most {MOST} bytes",
                field="payload",
                value=f"{size} bytes",
                remedy="pass large values as files, and split plans of many thousand tasks",
            )
        if size >= _SMALL:
            packed = await _work(size, zlib.compress, _bytes(payload), 1)
            if len(packed) < size:
                payload = Payload(metadata={"encoding": ZLIB}, data=packed)
        large = self._claims is not None and bool(self._job) and len(payload.data) > INLINE
        if self._keys is not None:
            data = await _work(size, partial(self._keys.seal, _bytes(payload), same=large))
            payload = Payload(metadata={"encoding": SEALED, _KEY: self._keys.current.encode()}, data=data)
        if large and self._claims is not None:
            digest = await self._claims.put(self._job, _bytes(payload))
            reference = msgspec.json.encode(Reference(self._job, digest))
            payload = Payload(metadata={"encoding": CLAIM}, data=reference)
        return payload

    # -- and back ------------------------------------------------------------------------------------------

    async def _decoded(self, payload: Payload) -> Payload:
        try:
            if payload.metadata.get("encoding") == CLAIM:
                payload = Payload.FromString(await self._claimed(payload.data))
            if payload.metadata.get("encoding") == SEALED:
                payload = Payload.FromString(await self._opened(payload))
            elif self._keys is not None and not self._plain:
                raise _in_clear()
            if payload.metadata.get("encoding") == ZLIB:
                payload = Payload.FromString(await _work(len(payload.data), _unpacked, payload.data))
        except (DecodeError, zlib.error, msgspec.MsgspecError, KeyError) as error:
            raise InternalError(
                f"a value at the Temporal server is broken: {type(error).__name__}",
                field="payload",
                remedy="look whether somebody else writes into this namespace",
            ) from error
        return payload

    async def _claimed(self, data: bytes) -> bytes:
        reference = msgspec.json.decode(data, type=Reference)
        if self._claims is None:
            raise _absent(reference)
        try:
            return await self._claims.read(reference.job, reference.digest)
        except NotFound as error:
            raise _absent(reference) from error

    async def _opened(self, payload: Payload) -> bytes:
        keys, key_id = self._keys, payload.metadata[_KEY].decode("utf-8", "replace")
        if keys is None:
            raise missing(
                key_id, "set CPA_TEMPORAL_PAYLOAD_KEY to the id of the current key, and start again"
            )
        return await _work(len(payload.data), keys.open, key_id, payload.data)


def _bytes(payload: Payload) -> bytes:
    """Always the same for the same."""
    return payload.SerializeToString(deterministic=True)


def _unpacked(data: bytes) -> bytes:
    opener = zlib.decompressobj()
    found = opener.decompress(data, MOST + 1)
    if len(found) > MOST:
        raise InternalError(f"a compressed value is larger than {MOST} bytes")
    return found


def _absent(reference: Reference) -> Unavailable:
    return Unavailable(
        f"a large value of job {reference.job} is not in the folder of such values",
        field="claims",
        value=reference.digest,
        remedy="put the folder `claims` of the data folder back from a backup; the job waits for it",
    )


def _in_clear() -> Unavailable:
    return Unavailable(
        "a value at the Temporal server is not encrypted, although there is a key: the job waits",
        field="temporal_payload_plain",
        value=False,
        remedy="if this job began before there was a key, set CPA_TEMPORAL_PAYLOAD_PLAIN=true until it has ended; "
        "if not, somebody else writes into this namespace: keep them out, and terminate the workflow at the server "
        "(the job goes on from the store)",
    )


async def _work(size: int, call: Callable[..., T], *arguments: object) -> T:
    """At once when it is quick, in a thread when it is not."""
    if size < _BIG:
        return call(*arguments)
    return await asyncio.to_thread(call, *arguments)
