-- name: lock
-- Versions become visible in their order, so that whoever has read one has read all before it.
select pg_advisory_xact_lock($1)

-- name: keep
insert into learned as l (policy, shop, rate, burst) values ($1, $2, $3, $4)
on conflict (policy, shop) do update set
    rate = coalesce(excluded.rate, l.rate), burst = coalesce(excluded.burst, l.burst),
    version = nextval('policy_version'), updated_at = now()
where (l.rate, l.burst) is distinct from
    (coalesce(excluded.rate, l.rate), coalesce(excluded.burst, l.burst))
returning policy, shop, rate, burst, version

-- name: tell
select pg_notify($1, '')

-- name: find
select policy, shop, rate, burst, version from learned where policy = $1 and shop = $2

-- name: since
select policy, shop, rate, burst, version from learned where version > $1
order by version limit $2
