"""When a task is tried again. Durations are integer milliseconds; jitter is a hash, never chance.

Backoff is exponential with a jitter of ± 10 %, so that tasks which failed together do not come back together.
"""

from __future__ import annotations

from cpa.core.ids import fraction
from cpa.core.job import RetryPolicy

FIRST_WAIT = 1_000
LONGEST_WAIT = 60_000
LOST_LEASE = 60_000
"""What one lost lease counts against the job's `environment_wait`: 60 in an hour, so that a task which kills its
agents comes to an end whatever is known about them."""
BLAME = 5_040
"""For the end of an agent that had one attempt. Where it had more each bears its share, for it may have been the
neighbour's doing: this number can be divided by every one up to ten."""
PARTING = 5_000
"""Those that lost their agent together come back spread over so many milliseconds: whose doing it was shows once
they are apart."""
FIRST_LOOK = 500
LONGEST_LOOK = 30_000
MOST_LOOKS = 12
"""How often an effect is looked for before its absence or presence counts as unknowable."""


def backoff(policy: RetryPolicy, attempts: int, asked: int, *seed: str | int) -> int:
    """Milliseconds before the next try after `attempts` tries; at least what the target asked for.

    Never less than one: a timer without a time never fires.
    """
    exponent = min(attempts - 1, 60)
    delay = min(policy.first_delay * policy.factor**exponent, float(policy.max_delay))
    jittered = delay * (0.9 + 0.2 * fraction(*seed, attempts))
    return max(int(jittered), asked, 1)


def environment_wait(waited: int, asked: int) -> int:
    """Milliseconds until a task that waits for its place is tried again: as long as it waited so far, bounded."""
    return max(min(max(waited, FIRST_WAIT), LONGEST_WAIT), asked)


def blamed(blame: int, among: int) -> int:
    """The blame after one more agent ended that had so many attempts."""
    return blame + max(BLAME // among, 1)


def loss_wait(blame: int, *seed: str | int) -> int:
    """Milliseconds before a task whose lease was lost is tried again: at once, unless it bears shares of blame that
    are more than half an end."""
    return 1 + int(PARTING * fraction(*seed)) if blame > BLAME // 2 and blame % BLAME else 1


def look_wait(looks: int, asked: int) -> int:
    """Milliseconds before the effect is looked for again: soon at first, never later than the verifier asked."""
    wait = min(FIRST_LOOK << min(looks, 10), LONGEST_LOOK)
    return min(wait, asked) if asked else wait
