-- name: create
insert into batch (id, name, shop, queue, kind, defaults, on_complete, fingerprint, paused)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (id) do nothing
returning true

-- name: fingerprint
select fingerprint, shop from batch where id = $1

-- name: read
-- By one of: $1 an id; $2 a shop (null: all) behind ($3, $4), newest first. One snapshot: what is
-- folded, what is not yet, and what is live add up to the total.
select
    b.id, b.name, b.kind, b.queue, b.shop, b.defaults, b.on_complete, b.on_complete_id, b.paused,
    b.total, b.completed + d.completed as completed, b.failed + d.failed as failed,
    b.cancelled + d.cancelled as cancelled, r.rows as rejected_rows, b.rate, b.created_at,
    b.closed_at, b.cancelled_at, b.finished_at, l.live
from (
    select * from batch
    where case when $1::uuid is not null then id = $1 else
        ($2::text is null or shop = $2)
        and (created_at, id) < (
            coalesce($3::timestamptz, 'infinity'),
            coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    end
    order by created_at desc, id desc limit $5
) as b
cross join lateral (
    select coalesce(sum(completed), 0)::bigint as completed,
        coalesce(sum(failed), 0)::bigint as failed,
        coalesce(sum(cancelled), 0)::bigint as cancelled
    from batch_delta where batch_id = b.id
) as d
cross join lateral (
    select count(*) as rows from batch_rejected where batch_id = b.id
) as r
cross join lateral (
    select coalesce(jsonb_object_agg(state, jobs), '{}') as live from (
        select state, count(*) as jobs from queue_job where batch_id = b.id group by state
    ) as s
) as l
order by b.created_at desc, b.id desc

-- name: close
update batch set closed_at = coalesce(closed_at, clock_timestamp()) where id = $1

-- name: hold
update batch set paused = $2 where id = $1

-- name: cancel
update batch set
    cancelled_at = coalesce(cancelled_at, clock_timestamp()),
    closed_at = coalesce(closed_at, clock_timestamp())
where id = $1 and finished_at is null

