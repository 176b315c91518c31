"""Actions without a surface."""

from __future__ import annotations

from typing import ClassVar

from cpa.ports.executor import ActionRequest, BaseExecutor, ExecutionResult, Verdict, Verification

_EMPTY = ExecutionResult(success=True)


class FlowExecutor(BaseExecutor):
    """`flow.noop` gives its argument `value` back (nothing without one) and touches nothing.

    It is what benchmarks run, so it does nothing but that.
    """

    actions: ClassVar[tuple[str, ...]] = ("flow.noop",)
    instant: ClassVar[bool] = True

    async def execute(self, request: ActionRequest) -> ExecutionResult:
        if "value" not in request.arguments:
            return _EMPTY
        return ExecutionResult(success=True, result={"value": request.arguments["value"]})

    async def verify(self, request: ActionRequest) -> Verification:
        """Nothing can have happened."""
        return Verification(verdict=Verdict.ABSENT, evidence="flow.noop has no effect outside its result.")
