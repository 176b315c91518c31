from __future__ import annotations

import pytest

from cpa.executors.flow import FlowExecutor
from cpa.ports.executor import ActionRequest, Verdict


def request(**arguments: object) -> ActionRequest:
    return ActionRequest(tenant="default", job="j", task="t", action="flow.noop", arguments=arguments)


@pytest.mark.parametrize("value", [None, 0, "Größe", [1, {"a": None}], {"artifact": "sha256:0"}])
async def test_noop_gives_its_value_back_unchanged(value: object) -> None:
    result = await FlowExecutor().execute(request(value=value, other=1))
    assert result.success
    assert result.result == {"value": value}


async def test_noop_without_a_value_gives_nothing() -> None:
    assert (await FlowExecutor().execute(request())).result == {}


async def test_noop_never_had_an_effect() -> None:
    assert (await FlowExecutor().verify(request())).verdict is Verdict.ABSENT
