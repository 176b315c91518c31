"""Which version of this program works on which job: Temporal's versioned workers.

    deployment    all workers of one task queue, named as the queue
    build         this program: its package version and the core's `LOGIC`, as `build_of` joins them

A job stays with the build that began it; new jobs go to the current one. Who is alone on its store becomes current
at once, and takes up what earlier builds left: nobody else would, and the core goes on with every older history.
Who works beside others becomes current only where none is, and leaves the jobs of the others to them.

Jobs of a build whose core is newer than ours are left: they wait for such a worker, and the log says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Final

import structlog
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.deployment.v1 import WorkerDeploymentVersion as NamedVersion
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    ListWorkerDeploymentsRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.client import Client
from temporalio.client import WorkflowExecution as Execution
from temporalio.common import SearchAttributeKey, VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from cpa import __version__
from cpa.core.job import LOGIC
from cpa.errors import BadInput, CPAError, Unavailable

log = structlog.get_logger(__name__)
OFF = "off"
"""As the setting: workers without versions."""
SOON, LATER = 0.5, 60.0
"""Seconds until the next look: after something went wrong or was found, and, growing to that, when all is well."""
_NONE: Final = (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.INVALID_ARGUMENT)
"""How a server says that it has no versions for us."""
_YET: Final = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)
"""How a server says that it does not know our version yet."""
KNOWN_WITHIN = 60.0
"""Seconds after which it should."""
_PAGE = 1_000
_AT_ONCE = 20
_BUILD = SearchAttributeKey.for_keyword("TemporalWorkerDeploymentVersion")


def build_of(setting: str) -> str:
    """The build's name: what is set, else the package's version, and the core's number. Empty is none."""
    return "" if setting == OFF else f"{setting or __version__}-logic{LOGIC}"


def logic_of(build: str) -> int:
    """The core's number in a build's name; 0 where there is none."""
    found = re.search(r"-logic(\d+)$", build)
    return int(found[1]) if found else 0


def deployment_of(queue: str) -> str:
    """The queue's name where that can name a deployment, else one like it that no other queue has."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", queue)
    return queue if plain == queue else f"{plain}-{hashlib.sha256(queue.encode()).hexdigest()[:8]}"


class Versions:
    """`run` is the loop. `alone`: no other process works on this store."""

    def __init__(self, client: Client, queue: str, build: str, *, alone: bool) -> None:
        self._client, self.build, self._alone = client, build, alone
        self.deployment = deployment_of(queue)
        self._settled = False
        """New jobs go to a build that somebody works under."""
        self._begun = 0.0
        self.trouble: CPAError | None = None
        """Why new jobs do not come to us; None when they do."""
        self.waiting = 0
        """Jobs that wait for a worker with a newer core."""

    async def config(self) -> WorkerDeploymentConfig | None:
        """How our worker is to be versioned; None is not at all. `BadInput` where jobs are bound to versions
        already and ours has none."""
        try:
            await self._client.workflow_service.list_worker_deployments(
                ListWorkerDeploymentsRequest(namespace=self._client.namespace, page_size=1)
            )
        except RPCError as error:
            if error.status not in _NONE:
                raise
            if self.build:
                log.warning("workers_unversioned", reason=error.message)
            self.build = ""
            return None
        if not self.build:
            await self._check_free()
            return None
        version = WorkerDeploymentVersion(self.deployment, self.build)
        return WorkerDeploymentConfig(
            version, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.PINNED
        )

    async def run(self) -> None:
        """Become the current build, and take up what was left, as long as this process lives."""
        pause, self._begun = SOON, asyncio.get_running_loop().time()
        while self.build:
            try:
                if not self._settled:
                    await self._become_current()
                found = await self._take_up() if self._alone else 0
            except RPCError as error:
                self._not_set(error)
                found = 1
            else:
                self.trouble = None
            # What began just now is in the server's lists a little later.
            pause = SOON if found else min(2 * pause, LATER)
            await asyncio.sleep(pause)

    def _not_set(self, error: RPCError) -> None:
        """A version is known at the server shortly after its first poll, and a server that is away comes back: only
        what is neither needs somebody."""
        young = asyncio.get_running_loop().time() - self._begun < KNOWN_WITHIN
        away = error.status is RPCStatusCode.UNAVAILABLE
        if self.trouble is not None or away or (error.status in _YET and young):
            return
        self.trouble = Unavailable(
            f"the Temporal server does not let new jobs come to our version: {error.message}",
            field="temporal_build",
            value=self.build,
            remedy="let us do that; look whether the namespace has reached `matching.maxDeployments`; or say "
            f"`temporal worker deployment set-current-version --namespace {self._client.namespace} "
            f"--deployment-name {self.deployment} --build-id {self.build}`",
        )
        log.warning("versions_not_set", error=str(self.trouble))

    # -- new jobs ------------------------------------------------------------------------------------------

    async def become_current(self) -> None:
        """New jobs come to us from now on."""
        await self._client.workflow_service.set_worker_deployment_current_version(
            SetWorkerDeploymentCurrentVersionRequest(
                namespace=self._client.namespace, deployment_name=self.deployment, build_id=self.build
            )
        )
        log.info("build_current", build=self.build)

    async def _become_current(self) -> None:
        current = await self._current()
        if current != self.build:
            if current and not self._alone:
                log.info("another_build_current", build=self.build, current=current)
            else:
                await self.become_current()
        self._settled = True

    async def _current(self) -> str:
        """The build that new jobs go to; empty is none."""
        request = DescribeWorkerDeploymentRequest(
            namespace=self._client.namespace, deployment_name=self.deployment
        )
        try:
            found = await self._client.workflow_service.describe_worker_deployment(request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return ""
            raise
        return found.worker_deployment_info.routing_config.current_deployment_version.build_id

    async def _check_free(self) -> None:
        if current := await self._current():
            raise BadInput(
                f"the jobs of task queue {self.deployment!r} are bound to versions of workers, such as {current!r}",
                field="temporal_build",
                value=OFF,
                remedy="leave CPA_TEMPORAL_BUILD empty, or use a task queue of its own: CPA_TEMPORAL_QUEUE",
            )

    # -- old jobs ------------------------------------------------------------------------------------------

    async def _take_up(self) -> int:
        """Bind to us the running jobs of builds that nobody works under any more; how many there were."""
        query = (
            f"ExecutionStatus = 'Running' AND TemporalWorkerDeployment = '{self.deployment}' "
            f"AND TemporalWorkerDeploymentVersion != '{self.deployment}:{self.build}'"
        )
        found, newer = list[Execution](), dict[str, int]()
        async for execution in self._client.list_workflows(query, page_size=_PAGE):
            build = (execution.typed_search_attributes.get(_BUILD) or "").partition(":")[2]
            if logic_of(build) > LOGIC:
                newer[build] = newer.get(build, 0) + 1
            else:
                found.append(execution)
        for start in range(0, len(found), _AT_ONCE):
            await asyncio.gather(*map(self._bind, found[start : start + _AT_ONCE]))
        if found:
            log.info("jobs_taken_up", build=self.build, jobs=len(found))
        if sum(newer.values()) > self.waiting:
            log.error("jobs_wait_for_a_newer_version", jobs=newer, remedy="start a worker of that version")
        self.waiting = sum(newer.values())
        return len(found)

    async def _bind(self, execution: Execution) -> None:
        ours = NamedVersion(deployment_name=self.deployment, build_id=self.build)
        pinned = VersioningOverride.PinnedOverride(
            behavior=VersioningOverride.PINNED_OVERRIDE_BEHAVIOR_PINNED, version=ours
        )
        request = UpdateWorkflowExecutionOptionsRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=execution.id, run_id=execution.run_id),
            workflow_execution_options=WorkflowExecutionOptions(
                versioning_override=VersioningOverride(pinned=pinned)
            ),
            update_mask=FieldMask(paths=["versioning_override"]),
        )
        try:
            await self._client.workflow_service.update_workflow_execution_options(request)
        except RPCError as error:
            # It ended or rolled over meanwhile: the next look finds what is left to do.
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
