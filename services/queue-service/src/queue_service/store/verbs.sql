-- name: retry
select o_id, o_lane from retry_jobs($1)

-- name: cancel
select o_id, null::bigint as o_lane from cancel_jobs($1)

-- name: redact
select o_id, null::bigint as o_lane from redact_jobs($1)

-- name: forget_shop
select forget_shop($1, coalesce($2::timestamptz, clock_timestamp()))

-- name: run_now
select run_jobs_now($1)

-- name: wake
select wake_lanes($1)

-- name: batch_is_cancelled
select b.cancelled_at is not null from any_job j join batch b on b.id = j.batch_id where j.id = $1

-- name: count
-- Of the newest $10 jobs in these parts.
select count(*) from (
    select queue, state, shop, kind, tags from any_job
    where part = any($1::text[]) and created_at >= coalesce($2::timestamptz, '-infinity')
        and created_at < coalesce($3::timestamptz, 'infinity')
        and ($9::uuid is null or batch_id = $9)
    order by created_at desc, id desc limit $10
) as seen
where state = any($4::text[]) and ($5::text is null or queue = $5)
    and ($6::text is null or shop = $6) and ($7::text is null or kind = $7)
    and ($8::text is null or $8 = any(tags))

-- name: ask
-- Twice is once.
insert into job_sweep (id, verb, filter, matched, fingerprint, at_created)
values ($1, $2, $3, $4, $5, least($6::timestamptz, clock_timestamp()))
on conflict (id) do nothing

-- name: asked
select matched, fingerprint from job_sweep where id = $1

-- name: open
select id from job_sweep where finished_at is null order by created_at limit $1

-- name: lock
select verb, filter, at_created, at_id from job_sweep
where id = $1 and finished_at is null for update skip locked

-- name: step
-- The next $10 jobs that have not had their turn, and which of them match.
select
    id, created_at,
    state = any($4::text[]) and ($5::text is null or queue = $5)
        and ($6::text is null or coalesce(shop, '') = $6) and ($7::text is null or kind = $7)
        and ($8::text is null or $8 = any(tags))
        and ($9::uuid is null or batch_id is not distinct from $9) as matches
from any_job
where part = any($1::text[]) and created_at >= coalesce($2::timestamptz, '-infinity')
    and (created_at, id) < ($3::timestamptz, $11::uuid)
order by created_at desc, id desc limit $10

-- name: move_on
update job_sweep set
    applied = applied + $2, at_created = coalesce($3, at_created), at_id = coalesce($4, at_id),
    finished_at = case when $5 then clock_timestamp() end
where id = $1
