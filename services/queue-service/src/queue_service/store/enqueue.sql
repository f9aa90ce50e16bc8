-- name: lanes
-- Lanes are never deleted, so what this answers may be remembered for ever. The queue is held, since
-- a cap that is being set must find this lane, or this lane the cap.
with wanted as (
    select distinct queue, shop from unnest($1::text[], $2::text[]) as w (queue, shop)
    where exists (select from queue q where q.name = w.queue)
), made as (
    insert into lane (queue, shop, weight, cap)
    select w.queue, w.shop, coalesce((q.weights ->> w.shop)::float8, 1), q.per_shop_limit
    from wanted w join queue q on q.name = w.queue
    order by w.queue, w.shop
    for share of q
    on conflict (queue, shop) do nothing
    returning queue, shop, id
)
select queue, shop, id from made
union all
select l.queue, l.shop, l.id from lane l join wanted w on w.queue = l.queue and w.shop = l.shop

-- name: store
select * from store_jobs(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20
)

-- name: enqueue_unique
select o_index, o_verdict, o_id, o_state, o_run_at, o_created_at, o_max_attempts
from enqueue_unique_jobs(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24
)

-- name: sealed
select name from queue where sealed

-- name: reseal
-- What took the place of another job's args is sealed anew, for that job.
update queue_job j set args = g.fresh
from unnest($1::uuid[], $2::jsonb[], $3::jsonb[]) as g (id, given, fresh)
where j.id = g.id and j.args = g.given

-- name: wake
select wake_lanes($1)
