"""Values to bytes for the server: msgspec JSON, and around it the codec."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    BinaryNullPayloadConverter,
    BinaryPlainPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    EncodingPayloadConverter,
    PayloadCodec,
)

from cpa.engines.temporal.codec import Codec

_encode = msgspec.json.Encoder().encode


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


def converter(codec: PayloadCodec | None = None) -> DataConverter:
    """Values as JSON inside the codec. Texts of failures are values too: they may hold what people wrote."""
    return DataConverter(
        payload_converter_class=Converter,
        payload_codec=codec or Codec(),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
