-- name: beat
-- Say what we see and what we have followed, and learn who decides.
with mine as (
    insert into replica as r (id, seen_at, run_id, seq) values ($1, clock_timestamp(), $2, $3)
    on conflict (id) do update set
        seen_at = excluded.seen_at, run_id = excluded.run_id, seq = excluded.seq
), others as (
    select count(*) as alive,
           coalesce(bool_and(r.run_id is not distinct from $2 and r.seq >= e.seq), true) as agree,
           coalesce(bool_and(r.id > $1), true) as younger
    from replica r cross join epoch e
    where r.id <> $1 and r.seen_at > clock_timestamp() - $4::interval
)
select e.seq, e.gen, e.backend, e.mark, e.run_id,
       (extract(epoch from clock_timestamp() - e.changed_at) * 1000000)::bigint as age_us,
       o.alive + 1 as replicas,
       o.agree and o.younger and e.backend = 'postgres' and $2 is not null and $3 >= e.seq
           as may_open
from epoch e cross join others o

-- name: depart
select depart_from_redis($1)

-- name: open
select return_to_redis($1, $2, $3, $4, $5) as seq

-- name: leave
-- A replica that ends in order need not be waited for.
delete from replica where id = $1 or seen_at < clock_timestamp() - interval '1 hour'
