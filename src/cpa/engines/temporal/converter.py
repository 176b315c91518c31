"""Values to bytes for the server: msgspec JSON, compressed where that is worth it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    BinaryNullPayloadConverter,
    BinaryPlainPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    EncodingPayloadConverter,
    PayloadCodec,
)

_encode = msgspec.json.Encoder().encode
_ENCODING = b"binary/zlib"
_SMALL = 2_000
"""Bytes below which compressing saves nothing."""
MOST = 64 * 1024 * 1024
"""What a compressed value may become: a broken one must not fill the memory."""


class JsonConverter(EncodingPayloadConverter):
    """`json/plain` by msgspec: the server's own pages show it."""

    @property
    def encoding(self) -> str:
        return "json/plain"

    def to_payload(self, value: Any) -> Payload | None:
        return Payload(metadata={"encoding": b"json/plain"}, data=_encode(value))

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        return _decoder(type_hint or Any).decode(payload.data)


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


class Converter(CompositePayloadConverter):
    def __init__(self) -> None:
        super().__init__(BinaryNullPayloadConverter(), BinaryPlainPayloadConverter(), JsonConverter())


class Compression(PayloadCodec):
    """zlib around payloads that are not small; reads both."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [_packed(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [_unpacked(payload) for payload in payloads]


def _packed(payload: Payload) -> Payload:
    if len(payload.data) < _SMALL:
        return payload
    return Payload(metadata={"encoding": _ENCODING}, data=zlib.compress(payload.SerializeToString(), 1))


def _unpacked(payload: Payload) -> Payload:
    if payload.metadata.get("encoding") != _ENCODING:
        return payload
    opener = zlib.decompressobj()
    data = opener.decompress(payload.data, MOST)
    if opener.unconsumed_tail:
        raise ValueError(f"a compressed value is larger than {MOST} bytes")
    return Payload.FromString(data)


CONVERTER = DataConverter(payload_converter_class=Converter, payload_codec=Compression())
