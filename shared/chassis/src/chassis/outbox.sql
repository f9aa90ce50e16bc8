-- name: put
insert into outbox (event_id, type, envelope)
select * from unnest($1::uuid[], $2::text[], $3::jsonb[])
on conflict (event_id) do nothing

-- name: oldest
select id, envelope, extract(epoch from now() - created_at)::float8 as age_s
from outbox order by id limit $1

-- name: delete_sent
delete from outbox where id = any($1::bigint[])
