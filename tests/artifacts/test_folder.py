from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contracts.artifacts import ArtifactStoreContract, Damage, MakeStore, chunks

from cpa.artifacts.folder import FolderArtifacts
from cpa.artifacts.room import MEASURE_AGAIN
from cpa.errors import QuotaExceeded, Unavailable
from cpa.ports.artifacts import ArtifactStore


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


class TestFolderArtifacts(ArtifactStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda limit: FolderArtifacts(tmp_path / "artifacts", limit)

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Damage:
        def change(store: ArtifactStore, tenant: str, digest: str) -> None:
            path = next((tmp_path / "artifacts" / tenant).rglob(digest.removeprefix("sha256:")))
            content = bytearray(path.read_bytes())
            content[0] ^= 1
            path.write_bytes(content)

        return change


async def test_same_bytes_are_one_file_with_one_description(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path, 1000)
    for name in ("a", "b", "c"):
        await store.put("acme", b"same", name=name)
    assert [path.suffix for path in files(tmp_path)] == ["", ".json"]


async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    await FolderArtifacts(tmp_path / "root", 1000).put("acme", b"x")
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files(tmp_path))
    folders = [path for path in (tmp_path / "root").rglob("*") if path.is_dir()]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in folders)


async def test_no_tenant_name_leaves_the_root(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path / "root", 1000)
    for tenant in ("Größe", "con", "a b", "x" * 300, "~tilde", "..."):
        artifact = await store.put(tenant, tenant.encode())
        assert await store.read(tenant, artifact.digest) == tenant.encode()
    assert {path.parts[len(tmp_path.parts)] for path in files(tmp_path)} == {"root"}


async def test_an_incomplete_put_is_never_visible_and_a_cancelled_one_leaves_nothing(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path, 10_000_000)
    reached, closed = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        try:
            yield b"x" * 2_000_000
            reached.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    put = asyncio.create_task(store.put("acme", slow()))
    await asyncio.wait_for(reached.wait(), 10)
    assert [path.parent.name for path in files(tmp_path)] == ["incoming"]
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert closed.is_set()
    assert files(tmp_path) == []


async def test_a_lost_description_costs_the_name_only(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path, 1000)
    artifact = await store.put("acme", b"x", name="a.pdf", media_type="application/pdf")
    for content in (b"", b"{", b'{"name": 1}', b"[]"):
        next(path for path in files(tmp_path) if path.suffix == ".json").write_bytes(content)
        assert (await store.stat("acme", artifact.digest)).name == "file"
        assert await store.read("acme", artifact.digest) == b"x"


async def test_what_a_killed_process_left_is_swept_after_a_day_and_not_before(tmp_path: Path) -> None:
    await FolderArtifacts(tmp_path, 1000).put("acme", b"x")
    incoming = tmp_path / "acme" / "incoming"
    (incoming / "old").write_bytes(b"half")
    (incoming / "young").write_bytes(b"half")
    os.utime(incoming / "old", (1, 1))
    await FolderArtifacts(tmp_path, 1000).put("acme", b"y")
    assert [path.name for path in incoming.iterdir()] == ["young"]


async def test_a_root_that_cannot_be_used_is_unavailable_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"a file where the folder should be")
    with pytest.raises(Unavailable) as error:
        await FolderArtifacts(tmp_path / "root", 1000).put("acme", chunks(b"x"))
    assert error.value.remedy


async def test_all_files_of_a_tenant_together_have_a_limit(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path, 1000, 1700)
    kept = await store.put("acme", b"a" * 800)
    for _ in range(5):
        assert await store.put("acme", chunks(b"a" * 800)) == kept, "the same bytes take no more room"
    for content in (b"b" * 950, chunks(b"b" * 300, b"b" * 650)):
        with pytest.raises(QuotaExceeded) as error:
            await store.put("acme", content)
        assert (error.value.field, "CPA_MAX_TENANT_BYTES" in (error.value.remedy or "")) == ("content", True)
    assert await store.put("globex", b"b" * 950), "another tenant has room of its own"
    assert await store.put("acme", b"c" * 300), "what was refused takes none"
    assert len(files(tmp_path / "acme")) == 4


async def test_what_is_there_already_counts_after_a_restart_and_what_is_removed_does_not(
    tmp_path: Path,
) -> None:
    await FolderArtifacts(tmp_path, 1000, 1400).put("acme", b"a" * 800)
    now = 0.0
    store = FolderArtifacts(tmp_path, 1000, 1400, monotonic=lambda: now)
    await store.put("acme", b"b" * 450)
    with pytest.raises(QuotaExceeded):
        await store.put("acme", b"c" * 700)
    for path in files(tmp_path):
        if path.stat().st_size == 800:
            path.unlink()
    now += MEASURE_AGAIN
    assert await store.put("acme", b"c" * 700)


async def test_many_at_once_stay_below_the_limit_together(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path, 1000, 2500)

    async def put(letter: bytes) -> bool:
        try:
            await store.put("acme", chunks(letter * 500, letter * 500))
        except QuotaExceeded:
            return False
        return True

    stored = await asyncio.gather(*(put(bytes([letter])) for letter in range(10)))
    assert 1 <= sum(stored) <= 2
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 2500


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from cpa.artifacts.folder import FolderArtifacts
from cpa.artifacts.room import MEASURE_AGAIN
from cpa.errors import QuotaExceeded, Unavailable

async def stream():
    for _ in range(40):
        yield b"x" * 100_000

async def main():
    store = FolderArtifacts(Path(sys.argv[1]), 100_000_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
    for content in (stream(), b"x" * 2_000_000):
        try:
            await store.put("acme", content)
        except Unavailable as error:
            assert error.remedy and error.retryable
        else:
            raise SystemExit("the write went through")
    await store.put("acme", b"small enough")

asyncio.run(main())
"""


def test_no_room_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the file size makes the kernel refuse the write, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in files(tmp_path) if path.suffix != ".json"] == [b"small enough"]


KILLED = """
import asyncio, sys
from pathlib import Path
from cpa.artifacts.folder import FolderArtifacts
from cpa.artifacts.room import MEASURE_AGAIN

async def stream():
    yield b"x" * 2_000_000
    print("half", flush=True)
    await asyncio.Event().wait()

asyncio.run(FolderArtifacts(Path(sys.argv[1]), 100_000_000).put("acme", stream()))
"""


async def test_a_process_killed_while_writing_leaves_no_artifact(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        line = await asyncio.to_thread(output.readline)
    process.kill()
    process.wait(10)
    assert line == b"half\n"
    assert [path.parent.name for path in files(tmp_path)] == ["incoming"]
