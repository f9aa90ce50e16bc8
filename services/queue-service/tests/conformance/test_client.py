"""Every verb of the SDK's client is one that the service understands."""

import pytest

from mainstay import errors
from mainstay.client import new_id

from .conftest import Rig, ways

pytestmark = [pytest.mark.asyncio(loop_scope="session"), ways(only="pull")]

SHOP = "olives.myshopify.com"


async def test_queues(rig: Rig) -> None:
    name = f"made-{new_id()}"
    made = await rig.client.put_queue(name, per_shop_limit=2, weights={SHOP: 3})
    assert (made.served_by, made.per_shop_limit, made.weights) == ("pull", 2, {SHOP: 3})
    assert (await rig.client.put_queue(name, per_shop_limit=None)).per_shop_limit is None
    assert (await rig.client.pause_queue(name)).paused
    assert not (await rig.client.resume_queue(name)).paused
    page, names = await rig.client.list_queues(limit=2), set()
    while True:
        names |= {queue.name for queue in page.items}
        if page.next_cursor is None:
            break
        page = await rig.client.list_queues(limit=2, cursor=page.next_cursor)
    assert {name, rig.queue} <= names
    await rig.client.delete_queue(name)
    await rig.client.delete_queue(name)
    with pytest.raises(errors.NotFound):
        await rig.client.get_queue(name)
    await rig.enqueue()
    with pytest.raises(errors.Conflict):
        await rig.client.delete_queue(rig.queue)


async def test_jobs(rig: Rig) -> None:
    job_id = await rig.enqueue(delay_s=3600, shop=f"{new_id()}.myshopify.com")
    assert (await rig.client.run_now(job_id)).state == "ready"
    assert (await rig.client.cancel(job_id)).state == "cancelled"
    assert (await rig.client.cancel(job_id)).state == "cancelled"
    with pytest.raises(errors.Conflict):
        await rig.client.run_now(job_id)
    assert (await rig.client.retry(job_id)).state == "ready"
    shop = str((await rig.client.get_job(job_id)).shop)
    assert await rig.client.forget_shop(shop) == 1
    await rig.reaches(job_id, "cancelled")


async def test_batches(rig: Rig) -> None:
    batch = await rig.client.create_batch("spring", "test", queue=rig.queue, hold=True)
    await rig.client.upload_items(batch.id, [{"args": {"n": n}} for n in range(3)])
    assert (await rig.client.resume_batch(batch.id)).state == "open"
    assert (await rig.client.pause_batch(batch.id)).state == "paused"
    await rig.client.resume_batch(batch.id)
    await rig.client.close_batch(batch.id)
    (job,) = (await rig.client.lease(rig.queue, max=1, wait_s=5)).jobs
    await rig.client.settle([job.discard("vain", "no")])
    await rig.client.retry_failed(batch.id)
    await rig.reaches(str(job.id), "ready")
    assert batch.id in {one.id for one in (await rig.client.list_batches(limit=200)).items}
    await rig.client.cancel_batch(batch.id)
    await rig.reaches(str(job.id), "cancelled")


async def test_schedules(rig: Rig) -> None:
    name, job = f"s-{new_id()}", {"kind": "test", "queue": rig.queue}
    made = await rig.client.put_schedule(name, "0 9 1 1 *", job, timezone="Europe/Athens")
    assert made.next_fire_at is not None
    assert (made.next_fire_at.month, made.next_fire_at.hour) == (1, 7)
    assert (await rig.client.get_schedule(name)).job == job
    assert name in {one.name for one in (await rig.client.list_schedules(limit=200)).items}
    with pytest.raises(errors.Invalid) as refused:
        await rig.client.put_schedule(name, "0 0 30 2 *", job)
    assert [flaw.pointer for flaw in refused.value.errors] == ["/cron"]
    await rig.client.delete_schedule(name)
    await rig.client.delete_schedule(name)


async def test_push_handlers(rig: Rig) -> None:
    kind = f"order/paid-{new_id()}"
    made = await rig.client.put_handler(kind, "https://example.com/hook", max_in_flight=3)
    assert (made.kind, made.max_in_flight) == (kind, 3)
    assert str(made.secret).startswith("whsec_")
    assert (await rig.client.get_handler(kind)).secret is None
    await rig.client.delete_handler(kind)
    await rig.client.delete_handler(kind)
    with pytest.raises(errors.NotFound):
        await rig.client.get_handler(kind)
