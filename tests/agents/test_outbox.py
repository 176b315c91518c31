"""What an agent must not forget when it dies."""

from __future__ import annotations

import asyncio
import errno
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpa.agents.outbox import KEPT, Kept, Outbox
from cpa.errors import Conflict, Unavailable
from cpa.ports.agents import Named

TRANSACTION = 22
"""What SQLite calls beginning, ending and undoing one, for an authorizer."""


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


def entry(message: str, *, job: str = "j", epoch: int = 1) -> tuple[str, Named]:
    return message, Named(job, "t", epoch)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent" / "outbox.db"


@pytest.fixture
async def outbox(path: Path, clock: Clock) -> AsyncIterator[Outbox]:
    opened = await Outbox.open(path, "one", clock)
    yield opened
    await opened.close()


async def test_a_request_is_taken_once(outbox: Outbox) -> None:
    assert await outbox.take(*entry("m1")) is None
    assert await outbox.take(*entry("m2")) is None
    assert await outbox.take(*entry("m1")) == Kept(life="one", answer=None)


async def test_every_life_has_a_greater_number_also_when_the_clock_was_put_back(
    path: Path, clock: Clock
) -> None:
    numbers = []
    for step in (0, 5_000, -60_000, 0):
        clock.now += step
        outbox = await Outbox.open(path, "life", clock)
        numbers.append(outbox.incarnation)
        await outbox.close()

    assert numbers == sorted(set(numbers))
    assert numbers[:2] == [1_700_000_000_000, 1_700_000_005_000]


@pytest.mark.parametrize("there", ["", "folder", "secret"])
async def test_what_is_discarded_leaves_what_others_made(tmp_path: Path, clock: Clock, there: str) -> None:
    folder = tmp_path / "größe-agent"
    if there == "folder":
        folder.mkdir()
    outbox = await Outbox.open(folder / "outbox.db", "life", clock)
    if there == "secret":
        (folder / "kennwort").write_text("geheim")

    await outbox.discard()

    assert folder.exists() == bool(there)
    assert (folder / "kennwort").exists() == (there == "secret")


async def test_many_at_once_are_each_taken_once(outbox: Outbox) -> None:
    found = await asyncio.gather(*(outbox.take(*entry(f"m{n % 50}")) for n in range(100)))

    assert [each is None for each in found] == [True] * 50 + [False] * 50


async def test_an_answer_is_kept_and_the_first_one_stays(outbox: Outbox) -> None:
    await outbox.take(*entry("m1"))
    await outbox.answer("m1", "a1", b"done")
    await outbox.answer("m1", "a2", b"something else")

    assert await outbox.take(*entry("m1")) == Kept(life="one", answer=b"done")


async def test_what_is_not_acknowledged_is_told_in_the_order_of_the_requests(
    outbox: Outbox, clock: Clock
) -> None:
    for number in (3, 1, 2):
        clock.now += 1
        await outbox.take(*entry(f"m{number}"))
    for number in (1, 2, 3):
        await outbox.answer(f"m{number}", f"a{number}", f"{number}".encode())
    await outbox.delivered("a1")
    await outbox.delivered("never heard of")

    assert await outbox.undelivered() == [b"3", b"2"]
    assert await outbox.take(*entry("m1")) == Kept(life="one", answer=b"1")


async def test_another_life_finds_everything(path: Path, clock: Clock) -> None:
    first = await Outbox.open(path, "one", clock)
    await first.take(*entry("m1"))
    await first.take(*entry("m2"))
    await first.answer("m2", "a2", "größe".encode())
    await first.close()

    second = await Outbox.open(path, "two", clock)
    assert await second.take(*entry("m1")) == Kept(life="one", answer=None)
    assert await second.take(*entry("m3")) is None
    assert await second.undelivered() == ["größe".encode()]
    await second.close()


async def test_an_attempt_is_found_by_what_it_is_about(outbox: Outbox) -> None:
    await outbox.take(*entry("m1", epoch=2))
    await outbox.answer("m1", "a1", b"done")

    assert await outbox.find(Named("j", "t", 2)) == Kept(life="one", answer=b"done")
    assert await outbox.find(Named("j", "t", 1)) is None


async def test_old_answers_are_forgotten_and_open_ones_never(path: Path, clock: Clock) -> None:
    outbox = await Outbox.open(path, "one", clock)
    for name in ("delivered", "open", "begun"):
        await outbox.take(*entry(name))
    await outbox.answer("delivered", "a1", b"1")
    await outbox.answer("open", "a2", b"2")
    await outbox.delivered("a1")
    clock.now += KEPT + 10_000
    await outbox.take(*entry("another"))

    assert await outbox.take(*entry("delivered")) is None
    assert (await outbox.take(*entry("open"))) == Kept(life="one", answer=b"2")
    assert (await outbox.take(*entry("begun"))) == Kept(life="one", answer=None)
    await outbox.close()


async def test_what_an_earlier_life_never_answered_is_forgotten_after_a_day(path: Path, clock: Clock) -> None:
    first = await Outbox.open(path, "one", clock)
    await first.take(*entry("begun"))
    await first.close()
    second = await Outbox.open(path, "two", clock)
    clock.now += KEPT - 10_000
    assert await second.take(*entry("begun")) == Kept(life="one", answer=None)
    clock.now += 24 * 3_600_000
    assert await second.take(*entry("begun")) is None
    await second.close()


async def test_two_processes_cannot_share_it(outbox: Outbox, path: Path, clock: Clock) -> None:
    with pytest.raises(Conflict) as refused:
        await Outbox.open(path, "two", clock)

    assert refused.value.remedy is not None
    assert "--data" in refused.value.remedy


async def test_only_the_owner_can_read_it(outbox: Outbox, path: Path) -> None:
    await outbox.take(*entry("m1"))

    beside = sorted(each.name for each in path.parent.iterdir())
    assert f"{path.name}-wal" in beside
    assert {stat.S_IMODE((path.parent / name).stat().st_mode) for name in beside} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_that_is_none_is_said_so(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "outbox.db").write_text("this is no database, and long enough to be none" * 100)

    with pytest.raises(Unavailable):
        await Outbox.open(tmp_path / "outbox.db", "one", clock)


async def test_what_cannot_be_written_is_not_taken(outbox: Outbox) -> None:
    outbox._connection.execute("PRAGMA max_page_count = 1")

    async def fill() -> None:
        for number in range(1000):
            await outbox.take(*entry(f"m{number}", job="j" * 1000))

    with pytest.raises(Unavailable):
        await fill()


@pytest.mark.parametrize("odd", [{"epoch": 2**70}, {"job": "\ud800"}], ids=["number", "text"])
async def test_what_no_store_can_take_is_told_to_whoever_asked(odd: dict[str, Any], outbox: Outbox) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await outbox.take(*entry("odd", **odd))

        assert await outbox.take(*entry("next")) is None
        assert await outbox.find(Named("j", "t", 1)) == Kept(life="one", answer=None)


async def test_what_the_system_refuses_is_told_like_what_the_store_refuses(outbox: Outbox) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="No space left"):
            await outbox._write(full)

        assert await outbox.take(*entry("next")) is None


async def test_a_transaction_that_cannot_be_undone_is_told_all_the_same(outbox: Outbox) -> None:
    def undone(db: Any) -> None:
        db.set_authorizer(lambda action, *_: 1 if action == TRANSACTION else 0)
        db.execute("SELECT nothing")

    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="nothing"):
            await outbox._write(undone)
        outbox._connection.set_authorizer(None)

        assert await outbox.take(*entry("next")) is None


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from cpa.agents.outbox import Outbox
from cpa.ports.agents import Named

class Clock:
    def now_ms(self): return 1_700_000_000_000
    def monotonic(self): return 1.0

async def main():
    outbox = await Outbox.open(Path(sys.argv[1]), "one", Clock())
    for number in range(1000):
        await outbox.take(f"m{number}", Named("j", "t", 1))
        print(number, flush=True)
        if number == 20:
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_was_taken_is_known_after_a_kill(path: Path, clock: Clock) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True)
    told = [int(line) for line in killed.stdout.split()]
    assert (killed.returncode, told) == (-9, list(range(21)))

    outbox = await Outbox.open(path, "two", clock)
    assert all([await outbox.take(*entry(f"m{number}")) is not None for number in told])
    await outbox.close()
