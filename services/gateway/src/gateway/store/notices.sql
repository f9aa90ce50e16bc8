-- name: keep
insert into notice (id, owner, shop, verb, said)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[])
on conflict (id) do nothing

-- name: claim
-- In the order in which they were made. A claim that nobody ends is over by itself.
update notice set due_at = clock_timestamp() + interval '30 seconds'
where id in (select id from notice where due_at <= clock_timestamp()
             order by due_at limit $1 for update skip locked)
returning id, owner, shop, verb, said, made_at

-- name: done
delete from notice where id = any($1::uuid[])

-- name: later
update notice set due_at = clock_timestamp() + make_interval(secs => $2)
where id = any($1::uuid[])

-- name: count
select (select count(*) from (select from notice limit 100000) as counted),
       coalesce((select extract(epoch from clock_timestamp() - min(made_at))::float8
                 from notice), 0) as age_s
