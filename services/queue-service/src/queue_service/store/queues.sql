-- name: has
select exists (select from queue where name = $1)

-- name: page
-- $1 null: all behind $2, by name.
with chosen as (
    select * from queue
    where case when $1::text is null then name > $2::text else name = $1 end
    order by name limit $3
), counted as materialized (
    select * from queue_depths(array(select name from chosen))
)
select
    q.name, q.served_by, q.concurrency, q.global_limit, q.per_shop_limit, q.max_attempts,
    q.timeout_s, q.max_age_s, q.retry, q.weights, q.paused, q.sealed,
    q.drop_on_finish, q.retention,
    coalesce(c.depth, '{}') as depth, coalesce(c.is_estimate, false) as depth_is_estimate,
    oldest_ready_age(q.name) as oldest_ready_age_s
from chosen q left join (
    select o_queue as queue, jsonb_object_agg(o_state, o_jobs) as depth,
        bool_or(o_is_estimate) as is_estimate
    from counted group by o_queue
) as c on c.queue = q.name
order by q.name

-- name: create
with made as (
    insert into queue (
        name, served_by, concurrency, global_limit, per_shop_limit, max_attempts, timeout_s,
        max_age_s, retry, weights, paused, sealed, drop_on_finish, retention
    )
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    on conflict (name) do nothing
    returning name
)
select pg_notify('queue_changed', name) is not null from made

-- name: lock_running
-- Before the queue and its lanes: the order in which settling takes them.
select id from queue_job where queue = $1 and state = 'running' order by id for update

-- name: lock
select * from queue where name = $1 for update

-- name: change
update queue set
    served_by = $2, concurrency = $3, global_limit = $4, per_shop_limit = $5, max_attempts = $6,
    timeout_s = $7, max_age_s = $8, retry = $9, weights = $10, paused = $11, sealed = $12,
    drop_on_finish = $13, retention = $14,
    resumed_at = case when paused and not $11 then clock_timestamp() else resumed_at end
where name = $1

-- name: lock_lanes
select id from lane where queue = $1 order by id for update

-- name: count_jobs
-- What runs already counts under the new cap, and is given back when it ends.
update queue_job set counted = true where queue = $1 and state = 'running' and not counted

-- name: change_lanes
with running as (
    select lane, count(*)::integer as jobs from queue_job
    where queue = $1 and state = 'running' and counted group by lane
)
update lane l set
    weight = coalesce((q.weights ->> l.shop)::float8, 1),
    cap = q.per_shop_limit,
    running = coalesce(r.jobs, 0)
from queue q, lane k left join running r on r.lane = k.id
where q.name = $1 and k.queue = $1 and l.id = k.id

-- name: recount
update queue set running = case when global_limit is null then 0 else (
    select count(*) from queue_job where queue = $1 and state = 'running'
) end
where name = $1

-- name: notify
select pg_notify('queue_changed', $1)

-- name: shut_out_new_jobs
lock table queue_job in share mode

-- name: is_empty
select not exists (select from queue_job where queue = $1)

-- name: delete
delete from queue where name = $1

-- name: depths
-- Every queue has a row for ready jobs, so that an empty one reads 0.
select q.name as queue, s.state, coalesce(c.o_jobs, 0) as jobs, case when s.state = 'ready' then
    coalesce(oldest_ready_age(q.name), 0)
end as oldest_ready_age_s
from queue q
cross join unnest('{held,scheduled,ready,running,retrying}'::text[]) as s (state)
left join queue_depths(array(select name from queue)) as c
    on c.o_queue = q.name and c.o_state = s.state
