-- name: lead
-- Take or renew the lease; answers true for the holder. `until` is the database's time.
insert into leader as l (name, holder, until)
values ($1, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (name) do update set holder = excluded.holder, until = excluded.until
where l.holder = excluded.holder or l.until < clock_timestamp()
returning true
