-- So many in a window of the calendar. `number` names the window that `used` belongs to, `before` is
-- what was used in the one before it, `n` the limit that it was counted against. From `gone_us` on,
-- an absent row means the same.
create table quota_record (
    key text collate "C" primary key,
    number bigint not null,
    used bigint not null,
    before bigint not null,
    n bigint not null,
    version bigint not null,
    gone_us bigint not null,
    touched_us bigint not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Decide a batch, as the reference does. Keys come once each, limits as (index of key, cost, wait,
-- shadow, op), checks as the number of their limits and whether they only look. `ops` is null where
-- every limit takes. Keys that are quotas are named by their index in `quotas`, with the window
-- that the asker's clock is in; among `written` they count as not. Without a `lock_id` the keys are always decided here, and nobody is
-- asked whose turn it is. Answers what the caller must do (`decided`, `moved`: another backend
-- decides, `unsettled`: a replica has not followed the last change yet), and for each limit four
-- numbers: debt, t, tau, version; for that of a quota four more: number, before, weight, left.
--
-- The function of 0001 decides for replicas that have not been replaced yet; a later migration
-- drops it.
create function decide(
    keys text[], ts bigint[], taus bigint[], versions bigint[], written boolean[],
    counts int[], peeks boolean[],
    at_key int[], costs bigint[], waits bigint[], shadows boolean[], ops int[],
    quotas int[], quotas_written boolean[],
    window_numbers bigint[], starts bigint[], lengths bigint[], slidings boolean[],
    max_wait bigint, lock_id bigint, live_for interval, settle_within interval,
    out state text, out passed boolean[], out levels bigint[]
) language plpgsql volatile as $$
declare
    now_us bigint;
    who record;
    tats bigint[]; old_ts bigint[]; old_taus bigint[]; old_versions bigint[];
    debts bigint[];
    -- Of quotas, by key: the window, the one before it and what that weighs, and when it ends.
    numbers bigint[]; befores bigint[]; weights bigint[]; ends bigint[];
    found_numbers bigint[]; found_used bigint[]; found_befores bigint[];
    found_ns bigint[]; found_versions bigint[];
    -- What the check at hand takes: taken[k] counts where taker[k] is that check, and it forgets
    -- the window before where wiper[k] is.
    taken bigint[] := array_fill(0, array[cardinality(keys)]);
    taker int[] := array_fill(0, array[cardinality(keys)]);
    wiper int[];
    changed boolean[] := array_fill(false, array[cardinality(keys)]);
    has_quotas boolean := cardinality(quotas) > 0;
    first int := 1;
    last int;
    place int := 0;
    k int;
    debt bigint;
    afterwards bigint;
    fits boolean;
    shift bigint;
    weight bigint;
begin
    if lock_id is not null then
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
    end if;

    -- Lock in the order of keys, buckets before quotas, writing nothing to rows that exist; only
    -- then read the clock.
    if cardinality(keys) > cardinality(quotas) then
        insert into rate_limit_record (key, tat_us, t_us, tau_us, version, touched_us)
        select g.key, 0, g.t, g.tau, g.version, 0
        from unnest(keys, ts, taus, versions, written) g(key, t, tau, version, is_written)
        where g.is_written
        order by g.key collate "C"
        on conflict (key) do update set touched_us = excluded.touched_us where false;
    end if;
    if has_quotas then
        insert into quota_record (key, number, used, before, n, version, gone_us, touched_us)
        select keys[q.k], 0, 0, 0, taus[q.k], versions[q.k], 0, 0
        from unnest(quotas, quotas_written) q(k, is_written)
        where q.is_written
        order by keys[q.k] collate "C"
        on conflict (key) do update set touched_us = excluded.touched_us where false;
    end if;
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

    if has_quotas then
        select array_agg(q.number order by g.n), array_agg(q.used order by g.n),
               array_agg(q.before order by g.n), array_agg(q.n order by g.n),
               array_agg(q.version order by g.n)
          into found_numbers, found_used, found_befores, found_ns, found_versions
          from unnest(quotas) with ordinality g(k, n)
          left join quota_record q on q.key = keys[g.k];
        for i in 1 .. cardinality(quotas) loop
            k := quotas[i];
            debt := now_us - starts[i];
            shift := debt / lengths[i] - case when debt % lengths[i] < 0 then 1 else 0 end;
            numbers[k] := window_numbers[i] + shift;
            ends[k] := starts[i] + (shift + 1) * lengths[i];
            if found_versions[i] >= versions[k] then
                versions[k] := found_versions[i];
                taus[k] := found_ns[i];
            end if;
            -- One ahead stays in force: this clock lags behind the one that opened it.
            if found_numbers[i] = numbers[k] + 1 then
                numbers[k] := numbers[k] + 1;
                ends[k] := ends[k] + lengths[i];
            end if;
            debts[k] := case when found_numbers[i] = numbers[k] then found_used[i] else 0 end;
            befores[k] := case found_numbers[i]
                when numbers[k] then found_befores[i]
                when numbers[k] - 1 then found_used[i]
                else 0 end;
            weights[k] := 0;
            if slidings[i] then
                weight := lengths[i] / 1000000;
                weight := least((ends[k] - now_us + weight - 1) / weight, 1000000);
                weights[k] := (befores[k] * weight + 999999) / 1000000;
                debts[k] := debts[k] + weights[k];
            end if;
        end loop;
    end if;

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
            if has_quotas and numbers[k] is not null then
                levels[place + 1] := numbers[k];
                levels[place + 2] := case when wiper[k] = i then 0 else befores[k] end;
                levels[place + 3] := case when wiper[k] = i then 0 else weights[k] end;
                levels[place + 4] := ends[k] - now_us;
                place := place + 4;
            end if;
            if ops[j] > 0 then
                fits := true;
                case ops[j]
                when 1 then
                    if numbers[k] is null then
                        afterwards := greatest(0, debt
                            - least(least(costs[j], waits[j] / ts[k] + 1) * ts[k], waits[j]));
                    else
                        weight := case when wiper[k] = i then 0 else weights[k] end;
                        afterwards := greatest(weight,
                            debt - case when waits[j] = numbers[k] then costs[j] else 0 end);
                    end if;
                when 2 then
                    afterwards := least(costs[j], taus[k] / ts[k]) * ts[k] + waits[j];
                    afterwards := greatest(debt, least(afterwards, taus[k] + max_wait));
                when 3 then
                    afterwards := taus[k] + waits[j];
                    afterwards := greatest(debt, least(afterwards,
                        debt + least(costs[j], afterwards / ts[k] + 1) * ts[k]));
                when 4 then
                    afterwards := 0;
                    wiper[k] := i;
                end case;
            else
                fits := case when costs[j] <= taus[k] / ts[k]
                        then debt + costs[j] * ts[k] <= taus[k] + waits[j] else false end;
                if fits then
                    afterwards := debt + costs[j] * ts[k];
                end if;
            end if;
            if fits then
                taken[k] := afterwards;
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
                if has_quotas and wiper[k] = i then
                    befores[k] := 0;
                    weights[k] := 0;
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
    if has_quotas then
        update quota_record q
           set number = numbers[g.k], used = debts[g.k] - weights[g.k], before = befores[g.k],
               n = taus[g.k], version = versions[g.k], gone_us = ends[g.k] + 2 * g.length,
               touched_us = now_us
          from unnest(quotas, lengths) g(k, length)
         where changed[g.k] and q.key = keys[g.k];
    end if;
    state := 'decided';
end
$$;
