"""Names are looked up side by side, and those that nobody answers for hold up only who asks for them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from cpa.errors import NameNotResolved
from cpa.security.addresses import AddressGuard
from cpa.security.names import Names

PATIENCE = 0.2
REFUSED = 0.3


class NameServers:
    """Stand in for what the system asks: silent for names with `slow` in them until `wake`, else quick."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.awake = threading.Event()

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        self.threads.add(threading.current_thread())
        if "slow" in host:
            self.awake.wait(20)
        if "unknown" in host:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ["1.1.1.1"]

    def wake(self) -> None:
        self.awake.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
async def servers() -> AsyncIterator[NameServers]:
    found = NameServers()
    yield found
    await asyncio.to_thread(found.wake)
    await asyncio.sleep(0)  # What the threads told is heard.


def names(servers: NameServers, *, places: int = 64, patience: float = PATIENCE) -> Names:
    return Names(servers, patience=patience, refused=REFUSED, places=places)


async def unanswered(found: Names, *hosts: str) -> float:
    """Seconds until all of them were given up."""
    begun = time.monotonic()
    told = await asyncio.gather(*(found.look_up(host) for host in hosts), return_exceptions=True)
    assert [type(each) for each in told] == [NameNotResolved] * len(hosts)
    return time.monotonic() - begun


async def test_a_name_that_nobody_answers_for_is_given_up_in_time(servers: NameServers) -> None:
    with pytest.raises(NameNotResolved, match=r"the name a\.slow\.example was not resolved in time") as told:
        await names(servers).look_up("a.slow.example")

    assert told.value.code == "name_not_resolved"
    assert "name servers" in (told.value.remedy or "")


async def test_the_same_name_is_looked_up_once_for_all_who_ask(servers: NameServers) -> None:
    found = names(servers)

    await unanswered(found, *["a.slow.example"] * 50)

    assert servers.asked == ["a.slow.example"]


async def test_a_name_that_was_not_answered_is_refused_at_once_for_a_while(servers: NameServers) -> None:
    found = names(servers)
    await unanswered(found, "a.slow.example")

    assert await unanswered(found, "a.slow.example") < PATIENCE / 2
    await asyncio.sleep(REFUSED)  # Its look-up is under way still.
    assert await unanswered(found, "a.slow.example") < PATIENCE / 2
    assert servers.asked == ["a.slow.example"]


async def test_an_answer_that_came_late_is_given_to_who_asks_next(servers: NameServers) -> None:
    found = names(servers)
    await unanswered(found, "a.slow.example")
    await asyncio.to_thread(servers.wake)
    await asyncio.sleep(0.05)

    assert await found.look_up("a.slow.example") == ["1.1.1.1"]
    assert servers.asked == ["a.slow.example"]
    await asyncio.sleep(REFUSED)
    assert await found.look_up("a.slow.example") == ["1.1.1.1"]
    assert servers.asked == ["a.slow.example"] * 2


async def test_an_error_that_came_late_says_what_was_said_in_time(servers: NameServers) -> None:
    found = names(servers)
    await unanswered(found, "unknown.slow.example")
    await asyncio.to_thread(servers.wake)
    await asyncio.sleep(0.05)

    await unanswered(found, "unknown.slow.example")


async def test_a_name_that_does_not_exist_is_told_as_the_system_tells_it(servers: NameServers) -> None:
    found = names(servers)

    for _ in range(2):
        with pytest.raises(socket.gaierror, match="not known"):
            await found.look_up("unknown.example")
    assert len(servers.asked) == 2


async def test_a_domain_whose_servers_are_silent_holds_up_no_other(servers: NameServers) -> None:
    found = names(servers, places=8)
    silent = asyncio.create_task(unanswered(found, *(f"a{number}.slow.example" for number in range(100))))
    await asyncio.sleep(0.05)

    async with asyncio.timeout(PATIENCE / 2):
        assert await found.look_up("portal.firma.example") == ["1.1.1.1"]
    await silent
    assert len(servers.asked) == 3


async def test_names_that_answered_get_through_when_many_domains_are_silent(servers: NameServers) -> None:
    found = names(servers, places=8)
    await found.look_up("portal.firma.example")
    silent = asyncio.create_task(unanswered(found, *(f"slow{number}.example" for number in range(10))))
    others = asyncio.create_task(unanswered(found, *(f"www.slow{number}.example" for number in range(100))))
    await asyncio.sleep(0.05)

    async with asyncio.timeout(PATIENCE / 2):
        assert await found.look_up("portal.firma.example") == ["1.1.1.1"]
        assert await found.look_up("localhost") == ["1.1.1.1"]
    await unanswered(found, "new.example")  # All places of names that never answered are taken.
    await asyncio.gather(silent, others)
    assert len(servers.threads) <= 8 + 1


async def test_what_waits_for_a_place_gets_it_when_one_is_free(servers: NameServers) -> None:
    found = names(servers, places=8, patience=5)
    silent = [asyncio.create_task(found.look_up(f"{number}.slow.example")) for number in range(2)]
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(found.look_up("www.slow.example"))
    await asyncio.sleep(0.05)
    assert "www.slow.example" not in servers.asked

    servers.awake.set()

    assert await asyncio.gather(*silent, waiting) == [["1.1.1.1"]] * 3


async def test_who_stops_waiting_takes_the_answer_from_nobody(servers: NameServers) -> None:
    found = names(servers, patience=5)
    first, second = (asyncio.create_task(found.look_up("a.slow.example")) for _ in range(2))
    await asyncio.sleep(0.05)

    first.cancel()
    servers.awake.set()

    assert await second == ["1.1.1.1"]


def test_a_look_up_without_end_does_not_hold_up_the_end_of_the_process() -> None:
    program = """
import asyncio, threading
from cpa.errors import NameNotResolved
from cpa.security.names import Names

async def main():
    try:
        await Names(lambda host: threading.Event().wait(), patience=0.1).look_up("a.example")
    except NameNotResolved:
        print("given up")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr, done.returncode) == ("given up\n", "", 0)


async def test_the_guard_judges_every_address_of_the_one_look_up(servers: NameServers) -> None:
    guard = AddressGuard(names=names(servers))

    assert (await guard.resolve("https://portal.example/")).addresses == ("1.1.1.1",)
    with pytest.raises(NameNotResolved):
        await guard.resolve("https://a.slow.example/")
    assert servers.asked == ["portal.example", "a.slow.example"]


async def test_an_address_is_not_looked_up(servers: NameServers) -> None:
    guard = AddressGuard(names=names(servers))

    assert (await guard.resolve("https://1.1.1.1/")).addresses == ("1.1.1.1",)
    assert await guard.look_up("127.0.0.1") == ["127.0.0.1"]
    assert await guard.look_up("mail.firma.example") == ["1.1.1.1"]
    assert servers.asked == ["mail.firma.example"]
