"""Jobs under their final ids, ready for any road."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from chassis.kernel import errors
from contracts.commands import AcceptedJob, AcceptJobs
from contracts.jobs import JobCreate
from gateway.core import parcels

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWN = "0193f8a0-0000-7000-8000-000000000001"


def pack(document: dict[str, Any], *, shop: str | None = None, key: str | None = None) -> Any:
    stamp = parcels.Stamp(now=NOW, key_shop=shop, key=key)
    job = JobCreate.model_validate_json(json.dumps(document))
    return parcels.pack(job, document, stamp)


def test_a_key_makes_the_same_id_for_the_same_body_and_shop() -> None:
    one = pack({"kind": "x", "args": {"a": 1, "b": 2}}, key="k")
    same = pack({"args": {"b": 2, "a": 1}, "kind": "x"}, key="k")
    assert one.id == same.id
    assert one.id.version == 5
    assert one.id != pack({"kind": "y"}, key="k").id
    assert one.id != pack({"kind": "x", "args": {"a": 1, "b": 2}}, key="k2").id
    assert one.id != pack({"kind": "x", "args": {"a": 1, "b": 2}}, key="k", shop="s").id


def test_without_a_key_every_job_is_new_and_an_own_id_stays() -> None:
    assert pack({"kind": "x"}).id != pack({"kind": "x"}).id
    own = pack({"kind": "x", "id": OWN}, key="k")
    assert own.id == UUID(OWN)
    assert own.fingerprint == pack({"kind": "x"}).fingerprint


def test_what_travels_is_what_the_owner_reads() -> None:
    parcel = pack({"kind": "x", "delay_s": 90, "tags": ["a"], "shop": "S"}, key="k")
    accepted = AcceptedJob.model_validate_json(parcel.raw)
    assert accepted.job.run_at == NOW + timedelta(seconds=90)
    assert (accepted.job.delay_s, accepted.job.shop, accepted.scope) == (None, "s", "s")
    command = AcceptJobs.model_validate_json(parcels.command([parcel, parcel], promised=True))
    assert (len(command.jobs), command.promised, command.atomic) == (2, True, False)
    assert command.jobs[0] == accepted


def test_whatever_a_caller_may_say_travels_as_it_was_said() -> None:
    said = {
        "kind": "x", "queue": "q", "id": OWN, "priority": 9, "max_attempts": 3, "timeout_s": 1.5,
        "args": {"a": [1, 2.5, None, "ω"], "big": 2**63}, "run_at": "2026-02-01T10:00:00+02:00",
        "tags": ["a", "b"], "retry": {"base_s": 2.0}, "notify": True, "shop": " S.Example ",
        "unique": {"by": ["args.a"], "on_conflict": "reject"}, "delay_s": None,
    }  # fmt: skip
    job = JobCreate.model_validate_json(json.dumps(said))
    parcel = pack(said)
    accepted = AcceptedJob.model_validate_json(parcel.raw)
    assert accepted.job == job.model_copy(update={"id": None})
    assert (str(accepted.id), accepted.accepted_at, parcel.shop) == (OWN, NOW, "s.example")
    assert accepted.fingerprint == parcel.fingerprint


def test_a_keys_own_shop_is_the_jobs() -> None:
    parcel = pack({"kind": "x"}, shop="s.myshopify.com")
    assert AcceptedJob.model_validate_json(parcel.raw).job.shop == "s.myshopify.com"
    assert parcel.scope == "s.myshopify.com"


def test_every_place_in_a_batch_has_a_key_that_nobody_can_send() -> None:
    document = {"jobs": [{"kind": "x"}, {"kind": "x"}], "atomic": False}
    jobs = [(0, JobCreate(kind="x")), (1, JobCreate(kind="x"))]
    stamp = parcels.Stamp(now=NOW, key_shop=None, key="k")
    one, two = parcels.pack_all(jobs, document, stamp)
    assert [one.key, two.key] == ["k\x1f0", "k\x1f1"]
    assert one.fingerprint == two.fingerprint
    assert one.id != two.id
    unkeyed = parcels.pack_all(jobs, document, parcels.Stamp(now=NOW, key_shop=None, key=None))
    assert {each.key for each in unkeyed} == {None}


def test_loads_keep_order_and_bounds() -> None:
    many = [pack({"kind": "x"}) for _ in range(7)]
    size = len(many[0].raw)
    assert [len(load) for load in parcels.loads(many, items=3)] == [3, 3, 1]
    assert [len(load) for load in parcels.loads(many, size=2 * size)] == [2, 2, 2, 1]
    assert [len(load) for load in parcels.loads(many, size=1)] == [1] * 7
    assert [each for load in parcels.loads(many, items=2) for each in load] == many


def test_claims_tell_a_repeat_from_another_job() -> None:
    one = pack({"kind": "x"}, key="k")
    claims = parcels.Claims([parcels.waiting(one)])
    assert claims.like(pack({"kind": "x"}, key="k")) == parcels.waiting(one)
    assert claims.like(pack({"kind": "x"}, key="other")) is None
    with pytest.raises(errors.Invalid, match="another body"):
        claims.like(pack({"kind": "y"}, key="k"))
    own = pack({"kind": "x", "id": OWN})
    with pytest.raises(errors.Conflict):
        parcels.Claims([parcels.waiting(own)]).like(pack({"kind": "y", "id": OWN}))


@pytest.mark.parametrize(("size", "passes"), [(262_130, True), (262_150, False)])
def test_args_have_a_limit(size: int, passes: bool) -> None:
    job = JobCreate(kind="x", args={"a": "y" * size})
    if passes:
        parcels.require_small(job, size)
    else:
        with pytest.raises(errors.Invalid, match="/args"):
            parcels.require_small(job, size)


def test_args_are_measured_as_their_owner_measures_them() -> None:
    """Without spaces, whatever spaces their caller sent; numbers as they are printed."""
    parcels.require_small(JobCreate(kind="x", args={"a": [0] * 131_000}), 400_000)
    with pytest.raises(errors.Invalid, match="/args"):
        parcels.require_small(JobCreate(kind="x", args={"a": [1e15] * 20_000}), 100_000)
