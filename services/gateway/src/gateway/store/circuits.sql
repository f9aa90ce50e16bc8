-- name: override
insert into circuit_override (upstream, mode, reason, said_by, until)
values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
on conflict (upstream) do update set mode = excluded.mode, reason = excluded.reason,
    said_by = excluded.said_by, until = excluded.until

-- name: take_back
delete from circuit_override where upstream = $1

-- name: announce
select pg_notify('circuits', '')

-- name: overrides
select upstream, mode, reason, said_by, until,
       extract(epoch from until - clock_timestamp())::float8 as left_s
from circuit_override where until > clock_timestamp()

-- name: record
with forgotten as (
    delete from circuit_change where at < clock_timestamp() - interval '30 days'
)
insert into circuit_change (id, at, upstream, gateway, old, state, why, mode, until, reason, said_by)
select * from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::text[], $8::text[], $9::timestamptz[], $10::text[], $11::text[])
on conflict (id) do nothing

-- name: newest
select id, at, upstream, gateway, old, state, why, mode, until, reason, said_by
from circuit_change order by at desc, id desc limit $1
