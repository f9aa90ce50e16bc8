"""A job on its way: under its final id, in the very bytes that its owner will read.

Made once at the edge; every road carries it unchanged, so that the owner can tell a repeat.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from chassis.kernel import canonical, errors, ids
from contracts import commands, sizes
from contracts.jobs import MAX_ARGS_BYTES, JobCreate

GATEWAY = "gateway"
# No Idempotency-Key that came in a header can hold it.
ITEM_MARK = "\x1f"
REPLACED = frozenset({"id", "delay_s"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """`raw` is a `commands.AcceptedJob`. `scope` is the shop of the key, "" for none."""

    id: UUID
    shop: str
    queue: str
    scope: str
    key: str | None
    fingerprint: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An accepted parcel that its owner may not have yet."""

    id: UUID
    shop: str
    scope: str
    key: str | None
    fingerprint: str


def waiting(parcel: Parcel) -> Waiting:
    return Waiting(
        id=parcel.id,
        shop=parcel.shop,
        scope=parcel.scope,
        key=parcel.key,
        fingerprint=parcel.fingerprint,
    )


class Claims:
    """Who claims which ids and keys already."""

    def __init__(self, those: Iterable[Waiting]) -> None:
        self._by_id: dict[UUID, Waiting] = {}
        self._by_key: dict[tuple[str, str], Waiting] = {}
        for each in those:
            self.add(each)

    def add(self, each: Waiting) -> None:
        self._by_id[each.id] = each
        if each.key is not None:
            self._by_key[each.scope, each.key] = each

    def lacks(self, parcel: Parcel) -> bool:
        """Does nothing stand in its place?"""
        is_keyed = parcel.key is not None and (parcel.scope, parcel.key) in self._by_key
        return not is_keyed and parcel.id not in self._by_id

    def like(self, parcel: Parcel) -> Waiting | None:
        """What waits in its place. Raises Invalid or Conflict when that is another job."""
        same_key = self._by_key.get((parcel.scope, parcel.key)) if parcel.key is not None else None
        found = same_key or self._by_id.get(parcel.id)
        if found is None:
            return None
        if (parcel.fingerprint, parcel.shop) == (found.fingerprint, found.shop):
            return found
        if same_key is not None:
            raise errors.Invalid(
                "this Idempotency-Key was used with another body", code="idempotency_key_reused"
            )
        raise errors.Conflict("this id belongs to another job", code="id_taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What the gateway adds to what a caller said. `key` is the Idempotency-Key."""

    now: datetime
    key_shop: str | None
    key: str | None


def pack(job: JobCreate, document: dict[str, Any], stamp: Stamp) -> Parcel:
    """One job as `document` had it."""
    return _pack(job, document, _print_of(document), stamp, stamp.key)


def pack_all(
    jobs: Sequence[tuple[int, JobCreate]], document: dict[str, Any], stamp: Stamp
) -> list[Parcel]:
    """The good ones of a `jobs:batch`, by their place in it. Under a key every place has a key of
    its own and the print of the whole, so that another body is noticed wherever it differs."""
    said = document["jobs"]
    if stamp.key is None:
        return [_pack(job, said[place], _print_of(said[place]), stamp, None) for place, job in jobs]
    whole = canonical.fingerprint({**document, "jobs": [_without_id(job) for job in said]})
    return [
        _pack(job, said[place], whole, stamp, f"{stamp.key}{ITEM_MARK}{place}")
        for place, job in jobs
    ]


def _pack(
    job: JobCreate, document: dict[str, Any], fingerprint: str, stamp: Stamp, key: str | None
) -> Parcel:
    """The owner reads what the caller said, but for the id, the shop and a delay."""
    shop = job.shop or stamp.key_shop
    scope = stamp.key_shop or job.shop or ""
    identifier = job.id or (
        ids.derived_id("job", scope, key, fingerprint) if key is not None else ids.new_id()
    )
    said = {name: value for name, value in document.items() if name not in REPLACED}
    said["shop"] = shop
    if job.delay_s is not None:
        said["run_at"] = stamp.now + timedelta(seconds=job.delay_s)
    return wrap(
        said,
        id=identifier,
        queue=job.queue,
        fingerprint=fingerprint,
        now=stamp.now,
        scope=scope,
        key=key,
    )


def wrap(
    job: dict[str, Any],
    *,
    id: UUID,  # noqa: A002
    queue: str,
    fingerprint: str,
    now: datetime,
    scope: str = "",
    key: str | None = None,
) -> Parcel:
    """A job in the owner's words."""
    accepted = {
        "id": id,
        "accepted_at": now,
        "job": job,
        "fingerprint": fingerprint,
        "scope": scope,
        "key": key,
    }
    return Parcel(
        id=id,
        shop=job["shop"] or "",
        queue=queue,
        scope=scope,
        key=key,
        fingerprint=fingerprint,
        raw=orjson.dumps(accepted, option=orjson.OPT_UTC_Z),
    )


def require_small(job: JobCreate, said_bytes: int) -> None:
    """The owner's limit, by the owner's measure."""
    if sizes.are_too_large(job.args, said_bytes=said_bytes):
        detail = f"over {MAX_ARGS_BYTES} bytes"
        raise errors.Invalid(f"/args: {detail}", flaws=[errors.Flaw("/args", detail)])


def _print_of(document: dict[str, Any]) -> str:
    return canonical.fingerprint(_without_id(document))


def _without_id(document: Any) -> Any:
    """The id names the job, it is not part of what is asked."""
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if name != "id"}


def command(parcels: Iterable[Parcel], *, promised: bool, atomic: bool = False) -> bytes:
    """The body of `commands.job.accept.v1`."""
    head = orjson.dumps(
        {
            "type": commands.ACCEPT_JOBS,
            "gateway": GATEWAY,
            "promised": promised,
            "atomic": atomic,
        }
    )
    return b"%b,%b:[%b]}" % (head[:-1], b'"jobs"', b",".join(each.raw for each in parcels))


def loads(
    parcels: Sequence[Parcel], *, items: int = commands.MAX_JOBS, size: int = commands.MAX_BYTES
) -> Iterator[list[Parcel]]:
    """In order, in as few commands as they fit in; what is too large for one travels alone."""
    load: list[Parcel] = []
    weight = 0
    for parcel in parcels:
        if load and (len(load) == items or weight + len(parcel.raw) > size):
            yield load
            load, weight = [], 0
        load.append(parcel)
        weight += len(parcel.raw)
    if load:
        yield load
