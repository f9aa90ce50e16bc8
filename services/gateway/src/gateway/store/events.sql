-- name: append
-- The lock taken before it makes numbers appear in their order, so that a reader who
-- goes on behind the last number skips nothing.
insert into event_log (event_id, type, shop, envelope)
select t.event_id, t.type, t.shop, t.envelope
from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) as t (event_id, type, shop, envelope)
on conflict (event_id) do nothing
returning number, event_id

-- name: lock
select pg_advisory_xact_lock(1701868135)

-- name: after
select number, envelope from event_log
where number > $1 and ($2::text is null or shop = $2)
order by number limit $3

-- name: last
select coalesce(max(number), 0) from event_log

-- name: forget
delete from event_log where number in (
    select number from event_log
    where received_at < clock_timestamp() - make_interval(secs => $1) order by received_at
    limit 5000)

-- name: forget_events
delete from event_log where shop = $1 and received_at <= $2 and event_id <> $3

-- name: empty_accepted
-- A promise stays one: its owner keeps that it was made, and rejects it.
update accepted set command = jsonb_set(
    jsonb_set(command::jsonb, '{job,args}', '{}'), '{job,tags}', '[]')::json
where shop = $1 and accepted_at <= $2
