-- name: many
select
    id, queue, kind, shop, state, priority, attempt, max_attempts, args, run_at, created_at,
    started_at, finished_at, batch_id, tags, errors, progress, result, worker
from any_job where id = any($1::uuid[])

-- name: many_since
-- Of a long history, only the days are opened in which they can have ended.
select
    id, queue, kind, shop, state, priority, attempt, max_attempts, args, run_at, created_at,
    started_at, finished_at, batch_id, tags, errors, progress, result, worker
from any_job where id = any($1::uuid[]) and (part = 'live' or finished_at >= $2)

-- name: aliased
select
    alias.id as alias, a.id, a.queue, a.kind, a.shop, a.state, a.priority, a.attempt,
    a.max_attempts, a.args, a.run_at, a.created_at, a.started_at, a.finished_at, a.batch_id, a.tags,
    a.errors, a.progress, a.result, a.worker
from job_alias alias join any_job a on a.id = alias.job_id
where alias.id = any($1::uuid[])

-- name: newest
-- At most $6 jobs are looked at, so that a filter that matches little costs no more than one that
-- matches much.
select
    id, queue, kind, shop, state, priority, attempt, max_attempts, args, run_at, created_at,
    started_at, finished_at, batch_id, tags, errors, progress, result, worker
from (
    select * from any_job
    where part = any($1::text[])
        and (created_at, id) < (
            coalesce($2::timestamptz, 'infinity'),
            coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        and created_at >= coalesce($4::timestamptz, '-infinity')
        and created_at < coalesce($5::timestamptz, 'infinity')
    order by created_at desc, id desc limit $6
) as seen
where ($7::text is null or queue = $7) and ($8::text is null or state = $8)
    and ($9::text is null or shop = $9) and ($10::text is null or kind = $10)
    and ($11::text is null or $11 = any(tags))
order by created_at desc, id desc limit $12

-- name: last_seen
-- Where a look at $6 jobs ends; no row when there are fewer.
select created_at, id from any_job
where part = any($1::text[])
    and (created_at, id) < (
        coalesce($2::timestamptz, 'infinity'),
        coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    and created_at >= coalesce($4::timestamptz, '-infinity')
    and created_at < coalesce($5::timestamptz, 'infinity')
order by created_at desc, id desc limit 1 offset $6 - 1

-- name: newest_of_batch
select
    id, queue, kind, shop, state, priority, attempt, max_attempts, args, run_at, created_at,
    started_at, finished_at, batch_id, tags, errors, progress, result, worker
from any_job
where batch_id = $6 and part = any($1::text[])
    and (created_at, id) < (
        coalesce($2::timestamptz, 'infinity'),
        coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    and created_at >= coalesce($4::timestamptz, '-infinity')
    and created_at < coalesce($5::timestamptz, 'infinity')
    and ($7::text is null or queue = $7) and ($8::text is null or state = $8)
    and ($9::text is null or shop = $9) and ($10::text is null or kind = $10)
    and ($11::text is null or $11 = any(tags))
order by created_at desc, id desc limit $12

-- name: cancel
select o_state from cancel_jobs(array[$1::uuid])

-- name: lock_ids
-- History has no unique ids: two that reject the same job must come one after the other.
select pg_advisory_xact_lock(hashtextextended(id::text, 0))
from (select id from unnest($1::uuid[]) as id order by id) as sorted

-- name: forgotten
select filter ->> 'shop' as shop,
       max(coalesce((filter ->> 'until')::timestamptz, created_at)) as before
from job_sweep where verb = 'redact' and filter ->> 'shop' = any($1::text[])
group by filter ->> 'shop'

-- name: reject
-- Told, too: whoever heard 202 of it may not look again.
with rejected as (
    insert into queue_job_failed (
        id, queue, kind, shop, state, priority, attempt, max_attempts, lease_no, run_at, created_at,
        finished_at, batch_id, tags, fingerprint, errors, args
    )
    select distinct on (g.id)
        g.id, g.queue, g.kind, g.shop, 'rejected', g.priority, 0, g.max_attempts, 0,
        coalesce(g.run_at, g.created_at, clock_timestamp()), coalesce(g.created_at, clock_timestamp()),
        clock_timestamp(), null, g.tags::text[], g.fingerprint,
        jsonb_build_array(jsonb_build_object(
            'attempt', 0, 'at', to_char(
                clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'type', g.code, 'message', g.message, 'retryable', false)),
        case when exists (
            select from queue q where q.name = g.queue and (q.sealed or q.drop_on_finish)
        ) then '{}' else g.args end
    from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::integer[],
        $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::jsonb[], $12::text[],
        $13::text[]
    ) as g (
        id, queue, kind, shop, priority, max_attempts, run_at, created_at, tags, fingerprint, args,
        code, message
    )
    where not exists (select from any_job a where a.id = g.id)
        and not exists (select from job_alias a where a.id = g.id)
    returning id, queue, kind, shop, state, errors, finished_at
)
select tell(
    jsonb_agg(job_ended(id, queue, kind, shop, state, 0, null, errors, finished_at)),
    max(finished_at))
from rejected having count(*) > 0
