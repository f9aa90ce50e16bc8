-- name: lock
select pg_advisory_xact_lock(hashtextextended('permit ' || $1, 0))

-- name: take
-- A statement after the one that locks, so that it sees what those before it have committed. What
-- is held under this id already stays held, even if the limit has become smaller. `is_taken`: there
-- was room, or it did not matter, and the id is that of something else.
with used as (
    select coalesce(sum(weight), 0)::bigint as n
    from permit where key = $2 and id <> $1 and expires_at > clock_timestamp()
), mine as (
    select from permit
    where id = $1 and key = $2 and policy = $3 and weight >= $4::int
      and expires_at > clock_timestamp()
), put as (
    insert into permit as p (id, policy, key, weight, expires_at)
    select $1, $3, $2, $4::int, clock_timestamp() + make_interval(secs => $5)
    from used where used.n + $4::int <= $6 or exists (select from mine)
    on conflict (id) do update set expires_at = excluded.expires_at, weight = excluded.weight
        where p.key = excluded.key and p.policy = excluded.policy
    returning (extract(epoch from expires_at) * 1000)::bigint as expires_ms
), freed as (
    select expires_at, sum(weight) over (order by expires_at, id) as n
    from permit where key = $2 and id <> $1 and expires_at > clock_timestamp()
)
select put.expires_ms, used.n as others,
    (select ceil(extract(epoch from min(f.expires_at) - clock_timestamp()) * 1000)::bigint
     from freed f where f.n >= used.n + $4::int - $6) as room_in_ms,
    put.expires_ms is null and (used.n + $4::int <= $6 or exists (
        select from permit where id = $1 and (key, policy) is distinct from ($2, $3)
    )) as is_taken
from used left join put on true

-- name: find
select key, policy from permit where id = $1

-- name: renew
-- Not one that has run out: somebody else may have its place.
update permit p set expires_at = clock_timestamp() + make_interval(secs => $2)
where id = $1 and expires_at > clock_timestamp()
returning key, (extract(epoch from expires_at) * 1000)::bigint as expires_ms, weight + (
    select coalesce(sum(weight), 0) from permit u
    where u.key = p.key and u.id <> p.id and u.expires_at > clock_timestamp()
)::bigint as in_use

-- name: release
delete from permit where id = $1 returning id

-- name: sweep
delete from permit where id in (
    select id from permit where expires_at < clock_timestamp() - interval '1 minute'
    order by expires_at limit 5000 for update skip locked)
