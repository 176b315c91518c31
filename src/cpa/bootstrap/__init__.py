"""The only wiring: settings become adapters, adapters an engine, the engine gets its doors. Everything opened here
is closed in reverse, whatever happens in between."""

from __future__ import annotations

import gc
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog

from cpa.agents.runtime import AgentRuntime
from cpa.api.app import ApiServices, create_app
from cpa.api.server import listen
from cpa.api.server import serve as serve_app
from cpa.api.uploads import Uploads
from cpa.artifacts.folder import FolderArtifacts
from cpa.audit.log import AuditLog
from cpa.audit.query import AuditQuery
from cpa.bootstrap.engine import running
from cpa.bootstrap.health import probes
from cpa.bootstrap.metrics import figures
from cpa.bootstrap.store import StoreFile, is_new, made_beside_others
from cpa.bootstrap.system import SystemClock
from cpa.bootstrap.wire import Wire, open_wire
from cpa.config.intents import IntentFile
from cpa.config.loading import ConfigError, Problem
from cpa.config.workspace import Workspace, load_workspace
from cpa.engines.moving import check_holders
from cpa.errors import BadInput
from cpa.executors import builtin
from cpa.executors.registry import ExecutorRegistry
from cpa.orchestrator.agent_registry import Agent, AgentRegistry
from cpa.orchestrator.approvers import keyless
from cpa.orchestrator.directory import AgentDirectory
from cpa.orchestrator.messages import Messages
from cpa.orchestrator.planning import Planner
from cpa.orchestrator.rehearsal import rehearse
from cpa.ports.artifacts import Artifact, ArtifactStore
from cpa.ports.engine import Engine
from cpa.ports.keys import KeyStore
from cpa.ports.secrets import SecretsManager
from cpa.ports.signatures import SigningKey, SigningKeys
from cpa.ports.transport import Attempt
from cpa.repository.agents import SqlAgentStore
from cpa.repository.audit import SqlAuditRepository
from cpa.repository.database import Database, store_path
from cpa.repository.enrolment import SqlTokenStore
from cpa.repository.holders import SqlHolders
from cpa.repository.jobs import SqlJobRepository
from cpa.repository.keys import SqlKeyStore
from cpa.repository.questions import SqlQuestionQuery
from cpa.repository.steps import SqlSteps
from cpa.security.addresses import AddressGuard
from cpa.security.auth import Authenticator, Hasher, ensure_admin_key
from cpa.security.credentials import AgentCredentials
from cpa.security.enrolment import Enrolment
from cpa.security.secrets import EnvironmentAndFileSecrets
from cpa.security.signatures import MessageSignatures, SignedMessages
from cpa.settings import Settings
from cpa.telemetry.logs import configure

log = structlog.stdlib.get_logger("cpa.bootstrap")
TENANT = "default"
SWITCH_INTERVAL = 0.0005
"""Seconds a thread may keep the interpreter from another that wants it. The store's writer asks for it a few times
per batch and should not wait Python's usual 5 ms each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """What runs: the engine and what stands around it."""

    settings: Settings
    workspace: Workspace
    engine: Engine
    planner: Planner
    messages: Messages
    wire: Wire
    database: Database
    store: StoreFile
    artifacts: ArtifactStore
    executors: ExecutorRegistry
    agents: AgentRegistry
    directory: AgentDirectory
    keys: Authenticator
    audit: AuditLog
    secrets: SecretsManager
    clock: SystemClock


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Scheduler]:
    """The whole scheduler but its doors; ready on entry, everything durable and closed on exit."""
    workspace = _workspace(settings)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database, store = _store(settings)
        stack.callback(database.close)
        holders = SqlHolders(database)
        steps = SqlSteps(database, settings.engine)
        stack.callback(steps.close)
        await check_holders(settings.engine, holders, steps.load)
        artifacts = FolderArtifacts(
            settings.data / "artifacts", settings.max_artifact_bytes, settings.max_tenant_bytes
        )
        stack.push_async_callback(artifacts.close)
        audit = AuditLog(SqlAuditRepository(database), clock)
        vault = EnvironmentAndFileSecrets(settings.data / "secrets")
        guard = AddressGuard((*settings.allow_private, *workspace.allow_private))
        executors = _executors(settings, workspace, artifacts, vault, guard, audit)
        stack.push_async_callback(executors.close)

        hands: dict[str, AgentRuntime[Attempt]] = {}
        hasher, keys = _keys(settings, database, clock)
        wire = await stack.enter_async_context(
            open_wire(database, hands, clock, guard, hasher, heartbeat=settings.heartbeat_seconds)
        )
        agents, orchestrator = wire.agents, wire.orchestrator
        runtime = AgentRuntime(executors, orchestrator.handle_agent_response)
        _register(agents, hands, runtime, executors, settings)
        directory = _directory(
            wire, database, audit, clock, guard, _credentials(database, hasher, clock, keys)
        )
        # Known before the engine looks at what is open: what agents had, they have still.
        await directory.load()
        engine = await stack.enter_async_context(
            running(settings, steps, holders, orchestrator, clock, vault, hasher)
        )
        # Entered last, so that on the way out the attempts end before the engine stops storing their answers.
        await stack.enter_async_context(runtime)
        planner = _planner(settings, workspace, agents)
        yield Scheduler(
            settings=settings,
            workspace=workspace,
            engine=engine,
            planner=planner,
            messages=Messages(
                *(engine, planner, wire.journal, agents, wire.requests, wire.bids, directory, clock),
                artifacts,
            ),
            wire=wire,
            database=database,
            store=store,
            artifacts=artifacts,
            executors=executors,
            agents=agents,
            directory=directory,
            keys=keys,
            audit=audit,
            secrets=vault,
            clock=clock,
        )
        await engine.drain(settings.shutdown_seconds)


def _store(settings: Settings) -> tuple[Database, StoreFile]:
    """The store, and whether its file is the right one; a new one beside older files is told at once."""
    url = settings.database_url or settings.data / "cpa.db"
    path = store_path(url)
    new, wrong = is_new(path), made_beside_others(path, settings.data)
    database = Database.open(url)
    store = StoreFile.opened(database.path, new=new, new_beside_others=wrong)
    if (trouble := store.trouble()) is not None:
        log.warning("store_looks_wrong", path=str(database.path), detail=trouble.detail)
    return database, store


def _planner(settings: Settings, workspace: Workspace, agents: AgentRegistry) -> Planner:
    return Planner(
        workspace.intents,
        agents.offers,
        workspace.values,
        near=agents.near,
        max_parallel=settings.max_parallel,
        approve_own=settings.approve_own,
    )


def _workspace(settings: Settings) -> Workspace:
    """The workspace, with no plan in it that cannot be made."""
    workspace = load_workspace(settings.workspace)
    problems = [problem for source in workspace.own for problem in check_plans(source, workspace.values)]
    if problems:
        raise ConfigError(problems)
    return workspace


def check_plans(source: IntentFile, values: Mapping[str, Any] | None) -> list[Problem]:
    """What is wrong in the plans of a file of intents, in order of lines. `values`: those of the workspace; None
    when it is not known."""
    faults = rehearse(source.definitions, values)
    found = [source.problem(fault.path, fault.message, fault.remedy) for fault in faults]
    return sorted(found, key=lambda problem: (problem.line, problem.column))


async def _tell_keyless(workspace: Workspace, keys: KeyStore, now: int) -> None:
    """Who is to answer and cannot: a job would wait for them in vain."""
    definitions = [definition for source in workspace.own for definition in source.definitions]
    if told := keyless(definitions, workspace.values, await keys.list(TENANT), now):
        log.warning("people_without_key", detail=told)


def _keys(settings: Settings, database: Database, clock: SystemClock) -> tuple[Hasher, Authenticator]:
    """Who recognises callers, and the secret it does that with."""
    hasher, fixed = Hasher.of(settings.data), settings.api_key.get_secret_value()
    return hasher, Authenticator(SqlKeyStore(database), hasher, clock, fixed_key=fixed)


def _directory(
    wire: Wire,
    database: Database,
    audit: AuditLog,
    clock: SystemClock,
    guard: AddressGuard,
    credentials: AgentCredentials,
) -> AgentDirectory:
    return AgentDirectory(
        SqlAgentStore(database),
        wire.agents,
        wire.orchestrator,
        credentials,
        audit,
        clock,
        lambda: f"ag_{secrets.token_hex(8)}",
        check_endpoint=guard.check_endpoint,
        gone=wire.requests.gone,
        moved=wire.requests.moved,
    )


def _credentials(
    database: Database, hasher: Hasher, clock: SystemClock, keys: Authenticator
) -> AgentCredentials:
    """The keys of agents."""
    tokens = Enrolment(SqlTokenStore(database), hasher, clock)
    return AgentCredentials(SqlKeyStore(database), hasher, clock, tokens, keys)


def _register(
    agents: AgentRegistry,
    hands: dict[str, AgentRuntime[Attempt]],
    runtime: AgentRuntime[Attempt],
    executors: ExecutorRegistry,
    settings: Settings,
) -> None:
    """The built-in agent. Its address is new at every start: attempts of an earlier life are known to be lost."""
    address = f"agent://builtin/{secrets.token_hex(4)}"
    hands[address] = runtime
    agents.register(
        Agent(
            address,
            frozenset(executors.actions),
            sessions=settings.max_browsers,
        )
    )


def _executors(
    settings: Settings,
    workspace: Workspace,
    artifacts: ArtifactStore,
    vault: SecretsManager,
    guard: AddressGuard,
    audit: AuditLog,
) -> ExecutorRegistry:
    async def trace_kept(tenant: str, job: str, trace: Artifact) -> None:
        await audit.log_action(tenant, "agent://builtin", "trace.kept", job, trace.as_reference())

    kinds = builtin.KINDS if settings.builtin_agent else ("flow",)
    return ExecutorRegistry(
        builtin.make(
            kinds,
            settings,
            workspace,
            artifacts=artifacts,
            vault=vault,
            guard=guard,
            look_up=guard.look_up,
            trace_kept=trace_kept,
        )
    )


# -- the server ----------------------------------------------------------------------------------------------


def tune() -> None:
    """Set the interpreter up for a server: what lives on is not looked at by the collector again and again, and
    the thread that writes the store does not wait long for its turn.

    What is garbage by now stays as well: that is a megabyte at most, and to find it takes a tenth of the start.
    Circles that become garbage later are found after five million objects more, some hundred megabytes."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 5)
    sys.setswitchinterval(SWITCH_INTERVAL)


def services_of(scheduler: Scheduler) -> ApiServices:
    """What the API needs of the scheduler."""
    database, engine = scheduler.database, scheduler.engine

    return ApiServices(
        engine=engine,
        planner=scheduler.planner,
        messages=scheduler.messages,
        channels=scheduler.wire.channels,
        agents=scheduler.directory,
        artifacts=scheduler.artifacts,
        audit=AuditQuery(SqlAuditRepository(database)),
        keys=scheduler.keys,
        clock=scheduler.clock,
        settings=scheduler.settings,
        version=version("cpa-scheduler"),
        questions=SqlQuestionQuery(database),
        dead_letters=SqlJobRepository(database),
        uploads=Uploads(scheduler.settings.max_agent_bytes, scheduler.clock.now_ms),
        said=Uploads(scheduler.settings.max_agent_bytes, scheduler.clock.now_ms, "messages"),
        signatures=MessageSignatures(
            SignedMessages(scheduler.settings.signed_messages),
            signing_keys(scheduler.agents),
            scheduler.clock,
        ),
        probes=probes(scheduler),
        figures=figures(scheduler),
    )


def signing_keys(agents: AgentRegistry) -> SigningKeys:
    """The public keys of the agents as they are registered at each moment."""

    def find(tenant: str, address: str) -> SigningKey | None:
        agent = agents.get(address, tenant)
        known = None if agent is None else agent.record
        return None if known is None else SigningKey(known.id, known.public_key)

    return find


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """The data folder, made where there is none. Where the start fails, what was made and is empty goes again."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        # Of a file in the way the system says that it exists.
        reason = (
            "a file is in the way" if isinstance(error, FileExistsError) else error.strerror or str(error)
        )
        raise BadInput(
            f"the data folder {folder} cannot be made: {reason}",
            field="data",
            value=str(folder),
            remedy="name a folder that you may write to with --data",
        ) from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for each in made:
                each.rmdir()
        raise


async def serve(settings: Settings, *, ready: Callable[[Scheduler, str], None] | None = None) -> None:
    """`cpa serve`: open everything, answer requests until SIGTERM or SIGINT, end in order.

    `ready` gets what serves and its URL, once requests are answered. Raises `CPAError`s for what an operator
    can mend (port taken, store in use, wrong configuration), some of them inside an `ExceptionGroup`.
    """
    configure(settings.log_level)
    with closing(listen(settings.host, settings.port)) as bound, _folder(settings.data):
        async with open_engine(settings) as scheduler:
            configure(settings.log_level, known=lambda: scheduler.secrets.known(TENANT))
            keys, now = SqlKeyStore(scheduler.database), scheduler.clock.now_ms()
            await ensure_admin_key(keys, settings.data, now=now)
            await _tell_keyless(scheduler.workspace, keys, now)
            app = create_app(services_of(scheduler))
            tune()
            told = partial(ready, scheduler) if ready else None
            await serve_app(app, bound, shutdown_seconds=settings.shutdown_seconds, ready=told)
