-- name: worker_queues
select name, concurrency, max_age_s from queue where served_by = 'worker'

-- name: settle_and_claim
-- The first part runs first; what it frees under a cap, the second may take. Rows of the first
-- have neither o_lane nor o_id.
select null::bigint as o_lane, null::uuid as o_id, o_index::bigint as o_lease_no, o_status as o_kind,
    null as o_shop, null::integer as o_attempt, null::integer as o_max_attempts,
    null::integer as o_snoozes, null::float8 as o_timeout_s, null as o_retry,
    null::text[] as o_tags, null::uuid as o_batch_id, null::timestamptz as o_created_at,
    null::timestamptz as o_run_at, null as o_args, null::smallint as o_priority,
    null::bigint as o_seq
from settle_jobs($1, $2, $3, $4, $5, $6, $7)
union all
select * from take_ready(
    $8, $9, $10, $11, p_near => $12, p_head_lanes => $13, p_heads => $14, p_floors => $15,
    p_debt_lanes => $16, p_debts => $17
)

-- name: near_lanes
-- Of all that may be served, those that were served least.
select id from lane where queue = $1 and is_open order by vtime, id limit $2

-- name: settle
select o_index, o_status from settle_jobs($1, $2, $3, $4, $5, $6, $7)

-- name: wake
select wake_behind($1, $2, $3)

-- name: sleeping
-- Lanes that sleep, a slice at a time.
select id from lane where not active and id > $1 order by id limit $2

-- name: stage
select stage_jobs($1)

-- name: mark
-- Serialised with rescue by the lock on the job: whoever comes second sees the first.
with held as (
    select id from queue_job where id = $1 and lease_no = $2 and (state = 'running') is true
        and (lease_until is null or lease_until > clock_timestamp())
    for update
), put as (
    insert into job_mark (job_id, name, lease_no) select id, $3, $2 from held
    on conflict (job_id, name) do nothing returning lease_no
)
select coalesce(
    (select lease_no from put),
    (select m.lease_no from job_mark m join held on held.id = m.job_id where m.name = $3)
)

-- name: progress
update queue_job set progress = $3 where id = $1 and lease_no = $2 and (state = 'running') is true

-- name: bury
delete from worker where beat_at < clock_timestamp() - make_interval(secs => $1)

-- name: orphans
-- An anti-join, not a join with dead workers: it also finds those whose worker's row is gone.
select j.id, j.lease_no, j.lane, j.attempt, j.max_attempts, j.kills
from queue_job j
where j.state = 'running' and j.worker is not null
    and not exists (select from worker w where w.id = j.worker)
order by j.id limit $1

-- name: keep_history_day
select keep_history_day($1, (current_date + $2::integer))

-- name: drop_history_days
select drop_history_days($1, (current_date - $2::integer))

-- name: forget_keys
delete from idempotency_key where (scope, key) in (
    select scope, key from idempotency_key
    where created_at < clock_timestamp() - make_interval(days => $1) limit $2
)

-- name: forget_leavings
select forget_leavings($1, $2)

-- name: forget_history
select forget_history($1)

-- name: overflowing
select (select count(*) from (select from queue_job_done_overflow limit 1000) as d)
    + (select count(*) from (select from queue_job_failed_overflow limit 1000) as f)
