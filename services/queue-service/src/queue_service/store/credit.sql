-- name: offer
-- No row: the worker is not known (yet, or any more).
insert into credit (queue, worker, channel, slots)
select $1, id, $3, $4 from worker where id = $2
on conflict (queue, worker) do update set channel = excluded.channel, slots = excluded.slots
returning slots

-- name: withdraw
delete from credit where worker = $1 returning queue, slots

-- name: ping
select pg_notify($1, $2)
