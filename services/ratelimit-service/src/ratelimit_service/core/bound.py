"""The published bound: how much more than an ideal bucket a policy may ever give out for a key.

An ideal bucket gives out `B + r * t` in any t seconds; a quota its limit in a window. What is
added, term by term, as the code has it:

- *A switch, every replica alive: nothing.* One backend decides at a time. Whoever hears that Redis
  is left ends the call in flight, remembers what it gave out, hands over every debt that Postgres
  may not know, and only then acknowledges; Postgres waits for that, or longer than a lease of Redis
  lasts. A debt is as old as its bearer says, never older, and Postgres keeps the larger one: the
  debt that a replica saw last holds what the others had spent before. On the way back each key is
  read from Postgres before Redis decides it. A batch whose answer was lost is decided again by the
  next backend: what it cost is counted twice at worst, and given out once.
- *A replica that dies, or stands still for a second, while Redis is left:* what it gave out and
  had not handed over. A key is due at one share, `SHARE` of the burst or one token, and an answer
  waits for Postgres at two shares; so it is less than two. (Postgres must confirm within
  `CONFIRM_S`: one that is away for longer is a lost store.)
- *Both stores lost:* each of M replicas gives out 1/M of what it believes to be left. The one that
  spent the key last knows its debt; the others may believe in a full bucket (or half of one, for a
  key they never saw): `B * (1 - 1/M)`. When Postgres is back, it may decide for one replica before
  the others have told what they gave out, at most the same again. Postgres may have forgotten its
  last moments in a crash, because its commits do not wait for the disk; every replica tells them
  again. Together less than twice the burst; for two replicas it is one.
- *Replicas that see different stores:* a partition that lets one reach only Redis and another only
  Postgres has two deciders, so each second adds `r`. One that reaches neither adds `r / M`.

Small buckets are pinned to Postgres, so that only its loss counts. Strict limits are on disk before
they are answered, and nobody decides them alone: nothing is added, ever; and so it is with permits.
The bound does not speak of a reservation, which takes its slot before it comes, nor of a policy
that lets all pass on purpose (`on_failure: open`), nor of more replicas than a bucket has tokens.
"""

import math

from contracts.ratelimits import Algorithm, Bound, Consistency, OnFailure, PolicyPut
from ratelimit_service.core import gcra
from ratelimit_service.core.gcra import Pin
from ratelimit_service.core.ledger import share_of


def of_policy(
    spec: PolicyPut, pace: gcra.Pace, pin: Pin, *, replicas: int | None = None
) -> Bound | None:
    """For so many replicas, or for however many; None for a policy that refuses nothing."""
    if spec.shadow:
        return None
    if spec.consistency is Consistency.STRICT or spec.algorithm is Algorithm.CONCURRENCY:
        return Bound(per_switch=0, per_dead_replica=0, both_stores_lost=0, per_second_apart=0.0)
    dead = 0 if pin is Pin.SMALL else min(math.ceil(2 * share_of(pace.burst)) - 1, pace.burst)
    return Bound(
        per_switch=0,
        per_dead_replica=dead,
        both_stores_lost=_lost(spec, pace.burst, replicas),
        per_second_apart=0.0 if spec.rate is None else 1_000_000 / pace.t_us,
    )


def _lost(spec: PolicyPut, burst: int, replicas: int | None) -> int | None:
    if spec.on_failure is OnFailure.OPEN:
        return None
    if spec.on_failure is OnFailure.CLOSED and not spec.max_degraded_s:
        return 0
    if replicas is None:
        return 2 * burst
    # A key that was never seen is half full, also to the only replica, if it has just started.
    return math.ceil(2 * burst * max(1 - 1 / replicas, 0.25))
