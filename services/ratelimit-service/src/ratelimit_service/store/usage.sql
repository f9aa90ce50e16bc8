-- name: add
-- A flush is added once: the number of a replica's last one only grows. In the order of keys, so
-- that two replicas never wait for each other.
with first as (
    insert into usage_flush as f (replica, number) values ($1, $2)
    on conflict (replica) do update set number = excluded.number, at = clock_timestamp()
        where f.number < excluded.number
    returning true
), told as (
    select g.minute, g.shop, g.policy, sum(g.allowed) as allowed, sum(g.denied) as denied,
           sum(g.shadow_denied) as shadow_denied, sum(g.cost) as cost
    from unnest($3::timestamptz[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                $8::bigint[], $9::bigint[])
         g(minute, shop, policy, allowed, denied, shadow_denied, cost)
    where exists (select from first)
    group by g.minute, g.shop, g.policy
    order by g.minute, g.shop collate "C", g.policy collate "C"
)
insert into usage_minute as u (minute, shop, policy, allowed, denied, shadow_denied, cost)
select minute, shop, policy, allowed, denied, shadow_denied, cost from told
on conflict (minute, shop, policy) do update set
    allowed = u.allowed + excluded.allowed,
    denied = u.denied + excluded.denied,
    shadow_denied = u.shadow_denied + excluded.shadow_denied,
    cost = u.cost + excluded.cost

-- name: has_room
-- Events about denials are samples: without a road they stop before they are many.
select count(*) < $1 from (select from outbox limit $1) waiting

-- name: top
select shop, policy, sum(allowed)::bigint as allowed, sum(denied)::bigint as denied,
       sum(shadow_denied)::bigint as shadow_denied
from usage_minute where minute > now() - make_interval(mins => $2)
group by shop, policy
having $1 = 'asked' or sum(denied) > 0
order by case when $1 = 'denied' then sum(denied) else sum(allowed + denied + shadow_denied) end
         desc, shop collate "C", policy collate "C"
limit $3

-- name: of_shop
select shop, policy, sum(allowed)::bigint as allowed, sum(denied)::bigint as denied,
       sum(shadow_denied)::bigint as shadow_denied
from usage_minute where shop = $1 and minute > now() - make_interval(mins => $2)
group by shop, policy order by policy collate "C"

-- name: began
select now() - make_interval(mins => $1)

-- name: page
select minute, shop, policy, allowed, denied, shadow_denied, cost
from usage_minute
where policy = $1 and minute > $2 and (shop, minute) > ($3, $4)
order by shop, minute limit $5

-- name: expire_usage
delete from usage_minute where (minute, shop, policy) in (
    select minute, shop, policy from usage_minute
    where minute < now() - make_interval(hours => $1)
    order by minute limit $2 for update skip locked)

-- name: expire_flushes
delete from usage_flush where at < now() - interval '1 day'

-- name: expire_events
delete from outbox where id in (
    select id from outbox where created_at < now() - make_interval(hours => $1)
    order by id limit $2 for update skip locked)
