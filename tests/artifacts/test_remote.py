"""The scheduler's files, as an agent sees them: over a real server."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Send
from starlette.types import Scope as Asked
from tests.api.conftest import open_door
from tests.contracts.artifacts import NOWHERE, ArtifactStoreContract, Damage, MakeStore
from tests.servers.ports import free_port

from cpa.api.services import ApiServices
from cpa.api.uploads import Uploads
from cpa.artifacts.folder import FolderArtifacts
from cpa.artifacts.remote import RemoteArtifacts
from cpa.demo.serving import serve
from cpa.errors import Forbidden, InternalError, Unauthorized, Unavailable
from cpa.ports.artifacts import ArtifactStore
from cpa.ports.keys import Scope


@dataclass
class Api:
    """A server in a thread of its own; what is behind it can be changed."""

    app: FastAPI
    url: str
    key: str
    folder: Path

    def keep(self, folder: Path, limit: int) -> None:
        services: ApiServices = self.app.state.services
        settings = services.settings.model_copy(update={"max_artifact_bytes": limit})
        store = FolderArtifacts(folder, limit)
        uploads = Uploads(sys.maxsize, services.clock.now_ms)
        changed = replace(services, artifacts=store, settings=settings, uploads=uploads)
        self.folder, self.app.state.services = folder, changed


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    door = open_door(tmp_path_factory.mktemp("api"))
    key = asyncio.run(door.key(Scope.AGENT, tenant="acme", name="agent://web/eins"))
    ready: list[str] = []
    began, ending = threading.Event(), threading.Event()

    async def live() -> None:
        async with serve(door.app) as url:
            ready.append(url)
            began.set()
            await asyncio.to_thread(ending.wait)

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert began.wait(20)
    yield Api(door.app, ready[0], key, Path())
    ending.set()
    thread.join()


class TestRemoteArtifacts(ArtifactStoreContract):
    @pytest.fixture
    async def make_store(self, api: Api, tmp_path: Path) -> AsyncIterator[MakeStore]:
        made: list[RemoteArtifacts] = []

        def make(limit: int) -> ArtifactStore:
            api.keep(tmp_path / "artifacts", limit)
            made.append(RemoteArtifacts(api.url, lambda: api.key, tenant="acme"))
            return made[-1]

        yield make
        for store in made:
            await store.close()

    @pytest.fixture
    def damage(self, api: Api) -> Damage:
        def change(store: ArtifactStore, tenant: str, digest: str) -> None:
            path = next((api.folder / tenant).rglob(digest.removeprefix("sha256:")))
            content = bytearray(path.read_bytes())
            content[0] ^= 1
            path.write_bytes(content)

        return change

    async def test_only_the_own_tenant_is_written_to(self, store: ArtifactStore) -> None:
        with pytest.raises(Forbidden) as caught:
            await store.put("globex", b"x")
        assert (caught.value.field, caught.value.value) == ("tenant", "globex")
        assert "for acme" in str(caught.value.remedy)

    async def test_a_form_is_stored_as_bytes(self, store: ArtifactStore) -> None:
        stored = await store.put("acme", b"--x", media_type="multipart/form-data")
        assert await store.read("acme", stored.digest) == b"--x"


async def test_without_the_key_nothing_is_given_away(api: Api) -> None:
    store = RemoteArtifacts(api.url, lambda: "", tenant="acme")
    with pytest.raises(Unauthorized):
        await store.stat("acme", NOWHERE)
    with pytest.raises(Unauthorized):
        await store.put("acme", b"x")
    await store.close()


async def test_a_scheduler_that_is_away_is_unavailable() -> None:
    store = RemoteArtifacts(f"http://127.0.0.1:{free_port()}", lambda: "", tenant="acme")
    with pytest.raises(Unavailable):
        await store.put("acme", b"x")
    with pytest.raises(Unavailable):
        await store.stat("acme", NOWHERE)
    await store.close()


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_was_changed_on_the_way_is_not_named(streamed: bool) -> None:
    """A reference goes into a signed word: it must be that of the bytes that were sent."""

    async def swapped(scope: Asked, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        told = {"artifact": NOWHERE, "size": 1, "name": "x", "media_type": "text/plain"}
        await JSONResponse(told, 201)(scope, receive, send)

    async def content() -> AsyncIterator[bytes]:
        yield b"x"

    async with serve(swapped) as url:
        store = RemoteArtifacts(url, lambda: "key", tenant="acme")
        with pytest.raises(InternalError) as caught:
            await store.put("acme", content() if streamed else b"x")
        await store.close()
    assert (caught.value.field, caught.value.value) == ("artifact", NOWHERE)
