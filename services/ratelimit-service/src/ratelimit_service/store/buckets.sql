-- name: decide
select * from decide($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[],
    $6::int[], $7::boolean[], $8::int[], $9::bigint[], $10::bigint[], $11::boolean[], $12::bigint,
    $13::bigint, $14::interval, $15::interval)

-- name: debts
-- What the keys of a batch owe now; unknown keys owe nothing.
select key, greatest(tat_us - clock_us(), 0) as debt, t_us, tau_us, version
from rate_limit_record where key = any($1::text[])

-- name: merge
-- The larger debt stays, in the newer pace. Sorted, so that two of these cannot wait for each other.
insert into rate_limit_record as r (key, tat_us, t_us, tau_us, version, touched_us)
select g.key, c.now_us + g.debt, g.t, g.tau, g.version, c.now_us
from (select clock_us() as now_us) c,
     unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        g(key, debt, t, tau, version)
order by g.key collate "C"
on conflict (key) do update set
    tat_us = greatest(
        case when r.version >= excluded.version then r.tat_us
        else excluded.touched_us + converted(
            greatest(r.tat_us - excluded.touched_us, 0), r.t_us, excluded.t_us, excluded.tau_us)
        end,
        case when r.version <= excluded.version then excluded.tat_us
        else excluded.touched_us + converted(
            excluded.tat_us - excluded.touched_us, excluded.t_us, r.t_us, r.tau_us)
        end),
    t_us = case when r.version > excluded.version then r.t_us else excluded.t_us end,
    tau_us = case when r.version > excluded.version then r.tau_us else excluded.tau_us end,
    version = greatest(r.version, excluded.version),
    touched_us = excluded.touched_us

-- name: sweep
-- A full bucket is what an absent row means. Untouched for minutes as well, so that a clock that
-- jumps and comes back has cost nothing.
delete from rate_limit_record where key in (
    select key from rate_limit_record
    where tat_us < clock_us() and touched_us < clock_us() - 300000000
    limit 5000 for update skip locked)
