-- name: served
select served_by, max_age_s from queue where name = $1

-- name: lease
select
    o_dry, (o_job).id, (o_job).lease_no, (o_job).lease_until, (o_job).lane, (o_job).queue,
    (o_job).kind, (o_job).shop, (o_job).state, (o_job).priority, (o_job).attempt,
    (o_job).max_attempts, (o_job).args, (o_job).run_at, (o_job).created_at, (o_job).started_at,
    (o_job).batch_id, (o_job).tags, (o_job).errors, (o_job).progress, (o_job).snoozes
from lease_jobs($1, $2, $3, $4, $5, $6, $7, $8)

-- name: held
-- As it is now: under another lease number, or past its end, settling it will be refused.
select
    j.id, j.lease_no, j.lane, j.queue, j.shop, j.attempt, j.max_attempts,
    coalesce(j.retry, q.retry) as retry, j.created_at, j.cancel_requested,
    jsonb_typeof(j.args) = 'string' as is_sealed,
    extract(epoch from clock_timestamp() - j.started_at)::float8 as running_s
from queue_job j join queue q on q.name = j.queue
where j.id = any($1::uuid[]) and (j.state = 'running') is true

-- name: settle
select o_index, o_status from settle_leases($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: extend
-- An end that was further away stays.
with held as (
    select j.id, g.progress
    from unnest($1::uuid[], $2::bigint[], $3::jsonb[]) as g (id, lease_no, progress)
    join queue_job j on j.id = g.id and j.lease_no = g.lease_no
    where (j.state = 'running') is true and j.lease_until > clock_timestamp()
        and ($5::text is null or j.shop = $5)
    order by j.id for update of j
)
update queue_job j set
    lease_until = greatest(j.lease_until,
        clock_timestamp() + make_interval(secs => coalesce($4::float8, j.lease_s))),
    progress = coalesce(held.progress, j.progress)
from held where j.id = held.id
returning j.id, j.lease_no, j.cancel_requested

-- name: unheard
-- The answer reached nobody, and nobody has asked again since.
delete from lease_call
where caller = $1 and queue = $2 and request_id = $3 and not is_repeated
returning true

-- name: expired
-- Those without a worker lie together in the index of running jobs; an order would lead the planner
-- away from it. One that somebody is at now must not hold up the others: it is passed over.
select id, lease_no, lane, attempt, max_attempts, 0 as kills from queue_job
where worker is null and state = 'running' and lease_until < clock_timestamp()
limit $1 for update skip locked

-- name: forget_calls
delete from lease_call where at < clock_timestamp() - make_interval(secs => $1)
