-- name: fold
-- Counters take in what has ended since. `rate` is jobs ended a second, smoothed over some passes,
-- and sinks while nothing ends. What is new is told, once a second for each batch.
with taken as (
    delete from batch_delta where id in (
        select id from batch_delta order by id limit $1 for update skip locked
    )
    returning batch_id, completed, failed, cancelled
), summed as (
    select batch_id, sum(completed) as completed, sum(failed) as failed,
        sum(cancelled) as cancelled, count(*) as deltas
    from taken group by batch_id
), folded as (
    update batch b set
        completed = b.completed + coalesce(s.completed, 0),
        failed = b.failed + coalesce(s.failed, 0),
        cancelled = b.cancelled + coalesce(s.cancelled, 0),
        rate = case
            when b.rate is null then c.ended / c.seconds
            when b.rate < 0.01 and c.ended = 0 then 0
            else 0.7 * b.rate + 0.3 * c.ended / c.seconds
        end,
        folded_at = clock_timestamp(),
        told_at = case when c.is_told then clock_timestamp() else b.told_at end
    from batch k
    left join summed s on s.batch_id = k.id
    cross join lateral (
        select
            coalesce(s.completed + s.failed + s.cancelled, 0)::float8 as ended,
            greatest(extract(epoch from
                clock_timestamp() - coalesce(k.folded_at, k.created_at)), 0.2)::float8 as seconds,
            s.batch_id is not null and (
                k.told_at is null or k.told_at < clock_timestamp() - interval '1 second'
            ) as is_told
    ) as c
    where b.id = k.id and (s.batch_id is not null or (k.finished_at is null and k.rate > 0))
    returning c.is_told, b.shop, b.id as batch_id, b.name, b.total, b.completed, b.failed,
        b.cancelled, b.rate
), told as (
    select tell(jsonb_agg(jsonb_build_object(
        'type', 'batch.progress.v1', 'subject', batch_id, 'shop', shop,
        'data', to_jsonb(f) - 'is_told')), clock_timestamp())
    from folded f where is_told having count(*) > 0
)
select coalesce((select sum(deltas) from summed), 0)::bigint, (select count(*) from told)

-- name: ended
-- Closed, and every job in it has come to an end.
select id from batch
where finished_at is null and closed_at is not null and completed + failed + cancelled >= total
order by closed_at limit $1

-- name: lock
select reopened from batch
where id = $1 and finished_at is null and closed_at is not null
    and completed + failed + cancelled >= total
for update skip locked

-- name: finish
update batch set finished_at = $2, on_complete_id = coalesce(on_complete_id, $3) where id = $1

-- name: now
select clock_timestamp()

-- name: held
-- Batches that go on, and hold jobs that a claim or an upload has put aside.
select b.id from batch b
where b.finished_at is null and not b.paused and b.cancelled_at is null
    and exists (select from queue_job j where j.batch_id = b.id and j.state = 'held')
limit $1

-- name: free
-- In the order in which they came, behind what is ready already.
with freed as (
    select id, run_at > clock_timestamp() as is_early, row_number() over (order by seq) as place
    from (
        select id, run_at, seq from queue_job
        where batch_id = $1 and state = 'held' order by seq limit $2 for update skip locked
    ) as locked
), moved as (
    update queue_job j set
        state = case when f.is_early then 'scheduled' else 'ready' end,
        seq = nextval('job_seq')
    from (select * from freed order by place) as f where j.id = f.id
    returning j.lane, j.state
)
select lane, count(*) filter (where state = 'ready') as ready, count(*) as freed
from moved group by lane

-- name: activate
select activate_lanes($1)

-- name: wake
select wake_lanes($1)

-- name: stopped
-- Jobs of cancelled batches that nobody has told yet.
select j.id from batch b join queue_job j on j.batch_id = b.id
where b.cancelled_at is not null and b.finished_at is null and not j.cancel_requested
limit $1

-- name: cancel
select count(*) from cancel_jobs($1)
