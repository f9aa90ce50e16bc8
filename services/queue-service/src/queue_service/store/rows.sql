-- name: target
select id, kind, shop, coalesce(defaults -> 'args', '{}') as default_args from batch where id = $1

-- name: lock
-- Closing, pausing and other uploads wait: what is decided here holds at the commit.
select kind, queue, shop, defaults, paused, closed_at is not null as is_closed
from batch where id = $1 for update

-- name: note
insert into batch_row (batch_id, source, number, digest)
select $1, $2, number, digest from unnest($3::bigint[], $4::bytea[]) as g (number, digest)
on conflict do nothing
returning number

-- name: known
select number, digest from batch_row
where batch_id = $1 and source = $2 and number = any($3::bigint[])

-- name: refuse
-- Not what was taken in an earlier upload.
insert into batch_rejected (batch_id, source, number, line, detail)
select $1, $2, g.number, g.line, g.detail
from unnest($3::bigint[], $4::bigint[], $5::text[]) as g (number, line, detail)
where not exists (
    select from batch_row r where r.batch_id = $1 and r.source = $2 and r.number = g.number
)
on conflict (batch_id, source, number) do update set line = excluded.line, detail = excluded.detail

-- name: forgive
-- Rows that were refused once and are right now.
delete from batch_rejected where batch_id = $1 and source = $2 and number = any($3::bigint[])

-- name: add
update batch set total = total + $2 where id = $1
