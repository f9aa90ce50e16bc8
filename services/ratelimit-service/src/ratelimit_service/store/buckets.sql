-- name: decide
select * from decide($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[],
    $6::int[], $7::boolean[], $8::int[], $9::bigint[], $10::bigint[], $11::boolean[], $12::int[],
    $13::int[], $14::boolean[], $15::bigint[], $16::bigint[], $17::bigint[], $18::boolean[],
    $19::bigint, $20::bigint, $21::interval, $22::interval)

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

-- name: put
-- What is given is right, and what is there is not: after a reset.
insert into rate_limit_record as r (key, tat_us, t_us, tau_us, version, touched_us)
select g.key, c.now_us + g.debt, g.t, g.tau, g.version, c.now_us
from (select clock_us() as now_us) c,
     unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        g(key, debt, t, tau, version)
order by g.key collate "C"
on conflict (key) do update set
    tat_us = case when r.version <= excluded.version then excluded.tat_us
        else excluded.touched_us + converted(
            excluded.tat_us - excluded.touched_us, excluded.t_us, r.t_us, r.tau_us)
        end,
    t_us = case when r.version > excluded.version then r.t_us else excluded.t_us end,
    tau_us = case when r.version > excluded.version then r.tau_us else excluded.tau_us end,
    version = greatest(r.version, excluded.version),
    touched_us = excluded.touched_us

-- name: quotas
select key, number, used, before, n, version from quota_record where key = any($1::text[])

-- name: merge_quotas
-- The later window stays, and in one window the larger count; the one before is known to whoever
-- was in it. `is_right`: what is given is, and what is there is not, unless it is of a later window.
insert into quota_record as q (key, number, used, before, n, version, gone_us, touched_us)
select g.key, g.number, g.used, g.before, g.n, g.version, c.now_us + g.lives, c.now_us
from (select clock_us() as now_us) c,
     unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bigint[]) g(key, number, used, before, n, version, lives)
order by g.key collate "C"
on conflict (key) do update set
    number = greatest(q.number, excluded.number),
    used = case
        when q.number > excluded.number then q.used
        when q.number < excluded.number or $8 then excluded.used
        else greatest(q.used, excluded.used) end,
    before = case
        when q.number = excluded.number and $8 then excluded.before
        when q.number = excluded.number then greatest(q.before, excluded.before)
        when q.number = excluded.number + 1 and not $8 then greatest(q.before, excluded.used)
        when q.number = excluded.number - 1 and not $8 then greatest(excluded.before, q.used)
        when q.number > excluded.number then q.before
        else excluded.before end,
    n = case when q.version > excluded.version then q.n else excluded.n end,
    version = greatest(q.version, excluded.version),
    gone_us = greatest(q.gone_us, excluded.gone_us),
    touched_us = excluded.touched_us

-- name: sweep_quotas
delete from quota_record where key in (
    select key from quota_record
    where gone_us < clock_us() and touched_us < clock_us() - 300000000
    limit 5000 for update skip locked)

-- name: sweep
-- A full bucket is what an absent row means. Untouched for minutes as well, so that a clock that
-- jumps and comes back has cost nothing.
delete from rate_limit_record where key in (
    select key from rate_limit_record
    where tat_us < clock_us() and touched_us < clock_us() - 300000000
    limit 5000 for update skip locked)
