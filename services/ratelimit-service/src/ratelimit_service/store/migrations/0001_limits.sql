-- A policy without a spec is one that was deleted: it stays deleted when the seed file names it,
-- and its versions go on growing.
create sequence policy_version;

create table policy (
    id text primary key,
    version bigint not null default nextval('policy_version'),
    spec jsonb,
    updated_at timestamptz not null default now()
);

-- Logged, but committed without waiting for the disk: a crash forgets the last moments of spending
-- and never a whole table of full buckets.
create table rate_limit_record (
    key text collate "C" primary key,
    tat_us bigint not null,
    t_us bigint not null,
    tau_us bigint not null,
    version bigint not null,
    touched_us bigint not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Who decides, in one row. `seq` grows with every change, `gen` with every return to Redis.
-- `mark` is what the Redis of this generation holds, `run_id` which server process it is.
create table epoch (
    only_row boolean primary key default true check (only_row),
    seq bigint not null default 1,
    gen bigint not null default 0,
    backend text not null default 'postgres' check (backend in ('redis', 'postgres')),
    mark text,
    run_id text,
    changed_at timestamptz not null default clock_timestamp()
);
insert into epoch default values;

-- The processes that decide: the Redis each of them sees, and the last change it has followed.
create table replica (
    id uuid primary key,
    seen_at timestamptz not null,
    run_id text,
    seq bigint not null
) with (fillfactor = 50);

create function converted(debt_us bigint, old_t bigint, new_t bigint, new_tau bigint)
returns bigint language sql immutable as $$
    select least((debt_us + old_t - 1) / old_t, new_tau / new_t) * new_t
$$;

create function clock_us() returns bigint language sql volatile as $$
    select (extract(epoch from clock_timestamp()) * 1000000)::bigint
$$;

-- Postgres decides from here on. Only the first to miss Redis changes the row; the others find it
-- changed. Both changes of the decider must outlive a crash, so they wait for the disk.
create function depart_from_redis(seen_seq bigint) returns bigint language plpgsql volatile as $$
declare
    now_seq bigint;
begin
    perform set_config('synchronous_commit', 'on', true);
    update epoch set backend = 'postgres', seq = seq + 1, changed_at = clock_timestamp()
     where backend = 'redis' and seq = seen_seq returning seq into now_seq;
    if now_seq is not null then
        perform pg_notify('ratelimit_epoch', now_seq::text);
    end if;
    return now_seq;
end
$$;

-- Redis decides from here on, if every live replica sees this one and has followed the epoch.
create function return_to_redis(
    seen_seq bigint, new_run_id text, new_mark text, lock_id bigint, live_for interval
) returns bigint language plpgsql volatile as $$
declare
    now_seq bigint;
begin
    perform set_config('synchronous_commit', 'on', true);
    -- Every decision of Postgres holds this lock shared: now all of them are committed.
    perform pg_advisory_xact_lock(lock_id);
    update epoch e set
        backend = 'redis', seq = seq + 1, gen = gen + 1, run_id = new_run_id, mark = new_mark,
        changed_at = clock_timestamp()
     where e.backend = 'postgres' and e.seq = seen_seq and not exists (
        select from replica r
        where r.seen_at > clock_timestamp() - live_for
          and (r.run_id is distinct from new_run_id or r.seq < e.seq))
    returning seq into now_seq;
    if now_seq is not null then
        perform pg_notify('ratelimit_epoch', now_seq::text);
    end if;
    return now_seq;
end
$$;

-- Decide a batch. Keys come once each, limits as (index of key, cost, wait, shadow), checks as the
-- number of their limits and whether they only look. Answers what the caller must do (`decided`,
-- `moved`: another backend decides, `unsettled`: a replica has not followed the last change yet),
-- and for each limit four numbers: debt, t, tau, version.
create function decide(
    keys text[], ts bigint[], taus bigint[], versions bigint[], written boolean[],
    counts int[], peeks boolean[],
    at_key int[], costs bigint[], waits bigint[], shadows boolean[], max_wait bigint,
    lock_id bigint, live_for interval, settle_within interval,
    out state text, out passed boolean[], out levels bigint[]
) language plpgsql volatile as $$
declare
    now_us bigint;
    who record;
    tats bigint[]; old_ts bigint[]; old_taus bigint[]; old_versions bigint[];
    debts bigint[];
    -- What the check at hand takes: taken[k] counts where taker[k] is that check.
    taken bigint[] := array_fill(0, array[cardinality(keys)]);
    taker int[] := array_fill(0, array[cardinality(keys)]);
    changed boolean[] := array_fill(false, array[cardinality(keys)]);
    first int := 1;
    last int;
    place int := 0;
    k int;
    debt bigint;
    fits boolean;
begin
    -- Whoever opens a generation takes this lock alone, so that no decision is half done then.
    perform pg_advisory_xact_lock_shared(lock_id);
    select e.backend, e.seq, e.changed_at > clock_timestamp() - settle_within as recent
      into who from epoch e;
    if who.backend <> 'postgres' then
        state := 'moved';
        return;
    end if;
    if who.recent and exists (
        select from replica r
        where r.seq < who.seq and r.seen_at > clock_timestamp() - live_for
    ) then
        state := 'unsettled';
        return;
    end if;

    -- Lock in the order of keys, writing nothing to rows that exist; only then read the clock.
    insert into rate_limit_record (key, tat_us, t_us, tau_us, version, touched_us)
    select g.key, 0, g.t, g.tau, g.version, 0
    from unnest(keys, ts, taus, versions, written) g(key, t, tau, version, is_written)
    where g.is_written
    order by g.key collate "C"
    on conflict (key) do update set touched_us = excluded.touched_us where false;
    now_us := clock_us();

    select array_agg(coalesce(r.tat_us, 0) order by g.n),
           array_agg(coalesce(r.t_us, g.t) order by g.n),
           array_agg(coalesce(r.tau_us, g.tau) order by g.n),
           array_agg(coalesce(r.version, g.version) order by g.n)
      into tats, old_ts, old_taus, old_versions
      from unnest(keys, ts, taus, versions) with ordinality g(key, t, tau, version, n)
      left join rate_limit_record r on r.key = g.key;

    for i in 1 .. cardinality(keys) loop
        debt := least(greatest(tats[i] - now_us, 0), old_taus[i] + max_wait);
        if old_versions[i] >= versions[i] then
            ts[i] := old_ts[i];
            taus[i] := old_taus[i];
            versions[i] := old_versions[i];
        else
            debt := least((debt + old_ts[i] - 1) / old_ts[i], taus[i] / ts[i]) * ts[i];
        end if;
        debts[i] := debt;
    end loop;

    for i in 1 .. cardinality(counts) loop
        last := first + counts[i] - 1;
        passed[i] := true;
        for j in first .. last loop
            k := at_key[j];
            debt := case when taker[k] = i then taken[k] else debts[k] end;
            levels[place + 1] := debt;
            levels[place + 2] := ts[k];
            levels[place + 3] := taus[k];
            levels[place + 4] := versions[k];
            place := place + 4;
            fits := costs[j] <= taus[k] / ts[k];
            if fits then
                fits := debt + costs[j] * ts[k] <= taus[k] + waits[j];
            end if;
            if fits then
                taken[k] := debt + costs[j] * ts[k];
                taker[k] := i;
            elsif not shadows[j] then
                passed[i] := false;
            end if;
        end loop;
        if passed[i] and not peeks[i] then
            for j in first .. last loop
                k := at_key[j];
                if taker[k] = i then
                    debts[k] := taken[k];
                    changed[k] := true;
                end if;
            end loop;
        end if;
        first := last + 1;
    end loop;

    update rate_limit_record r
       set tat_us = now_us + g.debt, t_us = g.t, tau_us = g.tau, version = g.version,
           touched_us = now_us
      from unnest(keys, debts, ts, taus, versions, changed) g(key, debt, t, tau, version, is_changed)
     where g.is_changed and r.key = g.key;
    state := 'decided';
end
$$;
