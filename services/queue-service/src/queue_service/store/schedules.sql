-- name: now
select clock_timestamp()

-- name: put
-- A fire that is due stays due, unless the times themselves change.
insert into schedule as s (name, shop, cron, timezone, job, missed, overlap, enabled, next_fire_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (name) do update set
    shop = excluded.shop, cron = excluded.cron, timezone = excluded.timezone, job = excluded.job,
    missed = excluded.missed, overlap = excluded.overlap, enabled = excluded.enabled,
    next_fire_at = case
        when excluded.enabled and s.enabled and s.next_fire_at is not null
            and s.cron = excluded.cron and s.timezone = excluded.timezone then s.next_fire_at
        else excluded.next_fire_at
    end,
    updated_at = clock_timestamp()
where $10::text is null or s.shop = $10
returning xmax = 0

-- name: page
-- $1 null: all behind $3, by name; $2 null: of all shops.
select
    name, shop, cron, timezone, job, missed, overlap, enabled, next_fire_at, last_fire_at,
    last_job_id, created_at, updated_at
from schedule
where case when $1::text is null then name > $3::text else name = $1 end
    and ($2::text is null or shop = $2)
order by name limit $4

-- name: delete
delete from schedule where name = $1 and ($2::text is null or shop = $2) returning true

-- name: is_due
select exists (select from schedule where enabled and next_fire_at <= clock_timestamp())

-- name: due
-- Locked, so that each fire is made by one; what others have locked is theirs to make.
select
    s.name, s.shop, s.cron, s.timezone, s.job, s.missed, s.overlap, s.enabled, s.next_fire_at,
    s.last_fire_at, s.last_job_id, s.created_at, s.updated_at,
    exists (select from queue_job j where j.id = s.last_job_id) as is_busy
from schedule s
where s.enabled and s.next_fire_at <= clock_timestamp()
order by s.next_fire_at limit $1 for update of s skip locked

-- name: move
-- Null leaves what the last fire was.
update schedule set
    next_fire_at = $2,
    last_fire_at = coalesce($3, last_fire_at),
    last_job_id = coalesce($4, last_job_id)
where name = $1
