-- name: put
insert into outbox (event_id, type, envelope)
select * from unnest($1::uuid[], $2::text[], $3::jsonb[])
on conflict (event_id) do nothing

-- name: oldest
select id, envelope, extract(epoch from now() - created_at)::float8 as age_s
from outbox order by id limit $1

-- name: delete_sent
delete from outbox where id = any($1::bigint[])

-- name: lead
-- Take or renew the lease; answers true for the holder. `until` is the database's time.
insert into leader as l (name, holder, until)
values ($1, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (name) do update set holder = excluded.holder, until = excluded.until
where l.holder = excluded.holder or l.until < clock_timestamp()
returning true
