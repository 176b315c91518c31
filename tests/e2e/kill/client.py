"""A client that does what a good client does when its server dies: ask again, with the same Idempotency-Key."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import httpx2
from tests.e2e.kill.orders import Wish
from tests.e2e.kill.victim import Victim


class Client:
    """Submits wishes in a thread of its own, and meanwhile asks how acknowledged jobs are.

    `acknowledged` maps a wish's name to the job the server named; `told` maps a job to the end the server told.
    `repeated` counts requests that had to be sent again. What the server said against its own word is in
    `broken`, and also jobs that were open and did not say why. `away`: it may say that its engine is away.
    """

    def __init__(
        self, victim: Victim, wishes: list[Wish], seed: int, *, room: int, away: bool = False
    ) -> None:
        self.acknowledged: dict[str, str] = {}
        self.told: dict[str, tuple[str, int]] = {}
        self.broken: list[str] = []
        self.repeated = 0
        self._away = away
        self.explained = 0
        """How often an open job was asked why it is open."""
        self.room = room
        """Most jobs acknowledged and not known to have ended; the others are not yet asked for."""
        self._victim = victim
        self._wishes = wishes
        self._draw = random.Random(seed)
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._submit, self._look)]
        self.ended = 0

    def __enter__(self) -> Client:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)

    def submit(self, api: httpx2.Client, wish: Wish) -> str:
        """The job's id. Raises `httpx2.TransportError` when no answer came."""
        answer = api.post("/jobs", json=wish.body, headers={"Idempotency-Key": wish.name})
        if self._away and answer.status_code == 503:
            raise httpx2.TransportError(answer.text)
        if answer.status_code != 201:
            raise AssertionError(f"{wish.name} was answered {answer.status_code}: {answer.text[:500]}")
        return str(answer.json()["job_id"])

    def open(self) -> httpx2.Client:
        """A connection to the present life."""
        headers = {"X-API-Key": self._victim.key}
        return httpx2.Client(base_url=self._victim.url, headers=headers, timeout=30, trust_env=False)

    # -- inside ----------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        waiting = list(self._wishes)
        tried: set[str] = set()

        def next_one(api: httpx2.Client) -> bool:
            if not waiting or len(self.acknowledged) - self.ended >= self.room:
                return False
            wish = waiting[0]
            self.repeated += wish.name in tried
            tried.add(wish.name)
            self.acknowledged[wish.name] = self.submit(api, wish)
            waiting.pop(0)
            return True

        self._while_alive(next_one)

    def _look(self) -> None:
        def at_one(api: httpx2.Client) -> bool:
            jobs = list(self.acknowledged.values())
            if not jobs:
                return False
            job = self._draw.choice(jobs)
            answer = api.get(f"/jobs/{job}", params={"wait": 0.1})
            self._note(job, answer)
            if job not in self.told:
                self._ask_why(api, job)
            return False

        self._while_alive(at_one)

    def _note(self, job: str, answer: httpx2.Response) -> None:
        """An acknowledged job is known for ever, and an end, once told, stays."""
        if answer.status_code != 200:
            self.broken.append(f"{job} was acknowledged, then answered {answer.status_code}")
            return
        status, number = str(answer.json()["status"]), int(answer.json()["job"]["last_seq"])
        before = self.told.get(job)
        if before is not None and before != (status, number):
            self.broken.append(f"{job} was told to be {before}, then {(status, number)}")
        if status in ("done", "failed", "cancelled"):
            self.told[job] = (status, number)

    def _ask_why(self, api: httpx2.Client, job: str) -> None:
        """Every task that is open says why, unless the job has ended meanwhile."""
        said = api.get(f"/jobs/{job}/explain").json()
        if mute := [task["task"] for task in said["tasks"] if not task["reason"]]:
            self.broken.append(f"{job}: {mute} do not say why they are open")
        if said["status"] in ("pending", "running") and not said["tasks"]:
            self.broken.append(f"{job} is open, and no task of it is")
        self.explained += 1

    def _while_alive(self, work: Callable[[httpx2.Client], bool]) -> None:
        """Call it again and again, on whatever life there is; rest when it had nothing to do."""
        while not self._stopped.is_set():
            if not self._victim.url:
                time.sleep(0.01)
                continue
            try:
                with self.open() as api:
                    while self._victim.url == str(api.base_url).rstrip("/") and not self._stopped.is_set():
                        if not work(api):
                            time.sleep(0.05)
            except httpx2.TransportError:
                time.sleep(0.01)
            except (AssertionError, OSError, ValueError, KeyError) as error:
                self.broken.append(f"{type(error).__name__}: {error}")
                time.sleep(0.5)
