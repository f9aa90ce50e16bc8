-- name: keep
-- Who is not returned was there before, under the same id or the same key.
insert into accepted (id, shop, queue, scope, key, fingerprint, road, command, due_at)
select t.id, t.shop, t.queue, t.scope, t.key, t.fingerprint, $1, t.command::json,
       clock_timestamp() + make_interval(secs => $2)
from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
     with ordinality as t (id, shop, queue, scope, key, fingerprint, command, place)
order by t.place
on conflict do nothing
returning id

-- name: find_like
select id, shop, scope, key, fingerprint from accepted
where id = any($1::uuid[])
   or (scope, key) in (select * from unnest($2::text[], $3::text[]))

-- name: find
select id, shop, scope, key, fingerprint from accepted where id = $1

-- name: hurry
update accepted set due_at = clock_timestamp(), road = 'spool' where id = any($1::uuid[])

-- name: claim
-- A claim lasts ten seconds: a replica that dies with it hands it on by doing nothing.
update accepted set due_at = clock_timestamp() + interval '10 seconds', attempts = attempts + 1
where id in (select id from accepted where due_at <= clock_timestamp()
             order by due_at, accepted_at limit $1 for update skip locked)
returning id, shop, queue, scope, key, fingerprint, command::text as command, accepted_at

-- name: done
delete from accepted where id = any($1::uuid[])

-- name: later
update accepted set due_at = clock_timestamp() + make_interval(secs => $2)
where id = any($1::uuid[])

-- name: count
select (select count(*) from (select from accepted limit 100000) as counted),
       coalesce((select extract(epoch from clock_timestamp() - accepted_at)::float8 from accepted
                 order by accepted_at limit 1), 0) as age_s
