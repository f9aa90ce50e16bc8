-- name: take
-- True for one owner at a time. Who comes while it is held writes nothing.
insert into grant_lease as l (session_id, owner, until)
select $1, $2, clock_timestamp() + make_interval(secs => $3)
where not exists (
    select 1 from grant_lease where session_id = $1 and until > clock_timestamp())
on conflict (session_id) do update set owner = excluded.owner, until = excluded.until
where l.until <= clock_timestamp()
returning true

-- name: renew
update grant_lease set until = clock_timestamp() + make_interval(secs => $3)
where session_id = $1 and owner = $2
returning true

-- name: drop
delete from grant_lease where session_id = $1 and owner = $2

-- name: delete_ended
-- What dead processes left, long after anybody could still act on it.
delete from grant_lease where until < clock_timestamp() - interval '1 hour'
