-- name: claim
-- True for one caller in a period. A run that was never finished is claimed again sooner.
insert into periodic_run as r (name, started_at) values ($1, clock_timestamp())
on conflict (name) do update set started_at = excluded.started_at, finished_at = null
where r.started_at < clock_timestamp() - make_interval(secs => $2)
   or (r.finished_at is null and r.started_at < clock_timestamp() - make_interval(secs => $3))
returning true

-- name: finish
update periodic_run set finished_at = clock_timestamp(), handled = $2 where name = $1
