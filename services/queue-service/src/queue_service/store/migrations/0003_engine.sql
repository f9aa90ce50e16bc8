-- The engine: what must be several statements in one transaction of READ COMMITTED, each with a
-- snapshot of its own. Lock order everywhere: keys, jobs by id, lanes by id; a claim never waits.

-- Lanes that have become non-empty take part again, at the virtual time of the others: sleeping
-- earns no credit, and debt is kept. Runs inside the transaction that made jobs ready.
create function activate_lanes(p_lanes bigint[]) returns void language plpgsql as $$
declare
    v_sleeping bigint[];
    v_queues text[];
begin
    if not exists (select from lane where id = any(p_lanes) and not active) then
        return;
    end if;
    select array_agg(id) into v_sleeping from (
        select id from lane where id = any(p_lanes) and not active order by id for update
    ) as locked;
    if v_sleeping is null then
        return;
    end if;
    -- The clock is the least of those that could be served: who is paused or full holds nobody back.
    with clock as materialized (
        select w.queue, coalesce(
            (select min(o.vtime) from lane o
                where o.queue = w.queue and o.active and not o.paused
                    and (o.cap is null or o.running < o.cap)
                    and (o.not_before is null or o.not_before <= clock_timestamp())),
            (select max(o.vtime) from lane o where o.queue = w.queue), 0) as v
        from (select distinct queue from lane where id = any(v_sleeping)) as w
    ), woken as (
        update lane l set active = true, vtime = greatest(l.vtime, c.v)
        from clock c
        where l.id = any(v_sleeping) and not l.active and c.queue = l.queue
        returning l.queue
    )
    select array_agg(distinct queue) into v_queues from woken;
    -- One hint a queue; a worker that misses it polls.
    perform pg_notify('queue_ready', name) from unnest(v_queues) as name;
end $$;

-- Called after a commit, by who made jobs ready and by who found a lane empty: one of the two sees
-- what the other did, so no job is left in a lane that sleeps. True if a lane was woken.
create function wake_lanes(p_lanes bigint[]) returns boolean language plpgsql as $$
declare
    v_ready bigint[];
begin
    -- First and alone: the planner would look for ready jobs in the whole backlog.
    if not exists (select from lane where id = any(p_lanes) and not active) then
        return false;
    end if;
    select array_agg(l.id) into v_ready from lane l
    where l.id = any(p_lanes) and not l.active
        and exists (select from queue_job j where j.lane = l.id and j.state = 'ready');
    if v_ready is null then
        return false;
    end if;
    perform activate_lanes(v_ready);
    return true;
end $$;

-- Store new jobs, each once; arrays may be shorter than p_ids where only defaults would follow. Rows
-- without o_index are what was created. If that is not all, rows with o_index (from 1) tell of each
-- job: existing (same id or key, same body; o_id is the job's), merged (as existing, into a unique
-- job), id_taken, key_reused, unknown_queue.
-- The ids of p_check are looked for in history in a later statement than the insert: a job settled
-- in between would be in neither for a single one. p_since: none of them can have been settled
-- earlier.
create function enqueue_jobs(
    p_ids uuid[], p_lanes bigint[], p_kinds text[], p_fingerprints text[], p_args jsonb[],
    p_priorities smallint[], p_run_ats timestamptz[], p_created_ats timestamptz[],
    p_max_attempts integer[], p_timeouts double precision[], p_notify boolean[], p_tags text[],
    p_retries jsonb[], p_batches uuid[], p_held boolean[], p_scopes text[], p_keys text[],
    p_check uuid[], p_since timestamptz
) returns table (
    o_index integer, o_verdict text, o_id uuid, o_state text, o_run_at timestamptz,
    o_created_at timestamptz, o_max_attempts integer
) language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    v_targets uuid[] := p_ids;
    v_reused boolean[];
    v_new boolean[];
    v_taken jsonb;
    v_ids uuid[];
    v_states text[];
    v_run_ats timestamptz[];
    v_created_ats timestamptz[];
    v_max_attempts integer[];
    v_lanes bigint[];
    v_settled uuid[];
begin
    perform require_sealed(p_lanes, p_args);
    if cardinality(p_keys) > 0 then
        with taken as (
            insert into idempotency_key (scope, key, job_id, fingerprint)
            select distinct on (g.scope, g.key) g.scope, g.key, g.id, g.fingerprint
            from unnest(p_scopes, p_keys, p_ids, p_fingerprints, p_lanes)
                with ordinality as g (scope, key, id, fingerprint, lane, n)
            where g.key is not null and exists (
                select from lane l join queue q on q.name = l.queue where l.id = g.lane
            )
            order by g.scope, g.key, g.n
            on conflict do nothing
            returning scope, key
        )
        select coalesce(jsonb_agg(jsonb_build_array(scope, key)), '[]') into v_taken from taken;
        -- The key decides alone: a job that has left history is not run again either.
        select array_agg(coalesce(k.job_id, g.id) order by g.n),
            array_agg(coalesce(k.fingerprint <> g.fingerprint, false) order by g.n),
            array_agg(
                k.key is null or v_taken @> jsonb_build_array(jsonb_build_array(g.scope, g.key))
                order by g.n)
        into v_targets, v_reused, v_new
        from unnest(p_ids, p_scopes, p_keys, p_fingerprints)
            with ordinality as g (id, scope, key, fingerprint, n)
        left join idempotency_key k on k.scope = g.scope and k.key = g.key;
    end if;

    with inserted as (
        insert into queue_job (
            id, lane, queue, kind, shop, state, priority, max_attempts, notify, timeout_s, run_at,
            created_at, batch_id, tags, retry, fingerprint, args
        )
        select distinct on (g.id)
            g.id, l.id, l.queue, g.kind, nullif(l.shop, ''),
            case when g.held then 'held' when g.run_at > v_now then 'scheduled' else 'ready' end,
            coalesce(g.priority, 5), coalesce(g.max_attempts, q.max_attempts),
            coalesce(g.notify, false), g.timeout_s, coalesce(g.run_at, g.created_at, v_now),
            coalesce(g.created_at, v_now), g.batch_id, coalesce(g.tags, '{}')::text[], g.retry,
            g.fingerprint, g.args
        from unnest(
            p_ids, v_targets, v_reused, v_new, p_lanes, p_kinds, p_fingerprints, p_args,
            p_priorities, p_run_ats, p_created_ats, p_max_attempts, p_timeouts, p_notify, p_tags,
            p_retries, p_batches, p_held
        ) with ordinality as g (
            id, target, reused, new, lane, kind, fingerprint, args, priority, run_at, created_at,
            max_attempts, timeout_s, notify, tags, retry, batch_id, held, n
        )
        join lane l on l.id = g.lane
        join queue q on q.name = l.queue
        where g.new is not false and g.reused is not true and g.target = g.id
        order by g.id, g.n
        on conflict (id) do nothing
        returning id, state, run_at, created_at, max_attempts, lane
    )
    select coalesce(array_agg(id), '{}'), array_agg(state), array_agg(run_at),
        array_agg(created_at), array_agg(max_attempts), array_agg(lane)
    into v_ids, v_states, v_run_ats, v_created_ats, v_max_attempts, v_lanes from inserted;

    if cardinality(p_check) > 0 then
        select array_agg(distinct h.id) into v_settled from queue_job_history h
        where h.id = any(p_check) and h.finished_at >= coalesce(p_since, '-infinity')
            and h.finished_at < v_now + interval '1 day' and h.id = any(v_ids);
        v_settled := v_settled || array(
            select a.id from job_alias a where a.id = any(p_check) and a.id = any(v_ids));
    end if;
    if cardinality(v_settled) > 0 then
        delete from queue_job where id = any(v_settled);
        select coalesce(array_agg(id), '{}'), array_agg(state), array_agg(run_at),
            array_agg(created_at), array_agg(max_attempts), array_agg(lane)
        into v_ids, v_states, v_run_ats, v_created_ats, v_max_attempts, v_lanes
        from unnest(v_ids, v_states, v_run_ats, v_created_ats, v_max_attempts, v_lanes)
            as u (id, state, run_at, created_at, max_attempts, lane)
        where id <> all(v_settled);
    end if;

    perform activate_lanes(array(
        select distinct lane from unnest(v_lanes, v_states) as u (lane, state)
        where state = 'ready'
    ));

    return query
    select null::integer, 'created', u.* from unnest(
        v_ids, v_states, v_run_ats, v_created_ats, v_max_attempts) as u;
    if cardinality(v_ids) = cardinality(p_ids) then
        return;
    end if;
    return query
    select
        g.n::integer,
        case
            when q.name is null then 'unknown_queue'
            when g.reused then 'key_reused'
            when a.fingerprint = g.fingerprint and coalesce(a.shop, '') = l.shop then 'merged'
            when a.id is not null then 'id_taken'
            when coalesce(j.fingerprint, h.fingerprint) = g.fingerprint
                and coalesce(j.shop, h.shop, '') = l.shop then 'existing'
            -- A key outlives its job's history.
            when j.id is null and h.id is null then 'existing'
            else 'id_taken'
        end,
        coalesce(a.job_id, g.target), j.state, j.run_at, j.created_at, j.max_attempts
    from unnest(v_targets, v_reused, p_lanes, p_fingerprints)
        with ordinality as g (target, reused, lane, fingerprint, n)
    left join lane l on l.id = g.lane
    left join queue q on q.name = l.queue
    left join queue_job j on j.id = g.target
    left join lateral (
        select s.id, s.fingerprint, s.shop from queue_job_history s
        where s.id = g.target and j.id is null limit 1
    ) h on true
    left join job_alias a on a.id = g.target and j.id is null and h.id is null
    order by g.n;
end $$;

-- Take up to p_want jobs for a worker that is alive: a quantum of each of the lanes served least.
-- With p_lease_s they are leased by time instead, from a queue that is pulled; p_shop: of that shop
-- alone. Rows without o_id name lanes that gave less than their share: they sleep now and must be woken
-- (wake_lanes) after this has been committed.
create function claim_jobs(
    p_queue text, p_worker uuid, p_want integer, p_lanes integer,
    p_lease_s double precision default null, p_shop text default null
) returns table (
    o_lane bigint, o_id uuid, o_lease_no bigint, o_kind text, o_shop text, o_attempt integer,
    o_max_attempts integer, o_snoozes integer, o_timeout_s double precision, o_retry jsonb,
    o_tags text[], o_batch_id uuid, o_created_at timestamptz, o_run_at timestamptz, o_args jsonb
) language plpgsql as $$
declare
    v_queue queue%rowtype;
    v_want integer := p_want;
    v_lanes bigint[];
    v_shares integer[];
    v_ids uuid[];
    v_held uuid[];
begin
    select * into v_queue from queue where name = p_queue;
    if v_queue.paused
        or p_lease_s is null and not exists (select from worker w where w.id = p_worker)
        or p_lease_s is not null and (v_queue.served_by = 'pull') is not true
    then
        return;
    end if;
    if v_queue.global_limit is not null then
        select * into v_queue from queue where name = p_queue for update;
        v_want := least(v_want, v_queue.global_limit - v_queue.running);
    end if;
    if v_want <= 0 then
        return;
    end if;

    select array_agg(id), array_agg(least(
        v_want / served + (place <= v_want % served)::integer, coalesce(cap - running, v_want)))
    into v_lanes, v_shares
    from (
        select l.id, l.cap, l.running, row_number() over () as place, count(*) over () as served
        from (
            select id, cap, running from lane
            where queue = p_queue and active and not paused and (cap is null or running < cap)
                and (not_before is null or not_before <= clock_timestamp())
                and (p_shop is null or shop = p_shop)
            order by vtime, id limit least(p_lanes, v_want) for update skip locked
        ) as l
    ) as chosen;
    if v_lanes is null then
        return;
    end if;

    select array_agg(j.id), array_agg(j.id) filter (where b.paused or b.cancelled_at is not null)
    into v_ids, v_held
    from (
        select head.id, head.batch_id
        from unnest(v_lanes, v_shares) as l (id, share)
        cross join lateral (
            select q.id, q.batch_id from queue_job q
            where q.lane = l.id and q.state = 'ready'
            order by q.priority, q.seq limit l.share for update skip locked
        ) as head
    ) as j
    left join batch b on b.id = j.batch_id;

    -- A claim never skips: what a paused or cancelled batch left in the lane is moved out of it.
    if v_held is not null then
        update queue_job set state = 'held' where id = any(v_held);
    end if;

    return query
    with taken as (
        update queue_job j set
            state = 'running', lease_no = j.lease_no + 1, attempt = j.attempt + 1,
            worker = p_worker, lease_s = p_lease_s,
            lease_until = clock_timestamp() + make_interval(secs => p_lease_s),
            started_at = clock_timestamp(), cancel_requested = false,
            counted = l.cap is not null
        from lane l
        where j.id = any(v_ids) and j.id <> all(coalesce(v_held, '{}')) and l.id = j.lane
        returning j.*
    ), counted as (
        select lane, count(*)::integer as n from taken group by lane
    ), moved as (
        select lane, count(*)::integer as n from queue_job
        where id = any(coalesce(v_held, '{}')) group by lane
    ), served as (
        update lane l set
            vtime = l.vtime + coalesce(c.n, 0) / l.weight,
            running = l.running + case when l.cap is null then 0 else coalesce(c.n, 0) end,
            active = coalesce(c.n, 0) + coalesce(m.n, 0) >= given.share
        from unnest(v_lanes, v_shares) as given (id, share)
        left join counted c on c.lane = given.id
        left join moved m on m.lane = given.id
        where l.id = given.id
        returning l.id, l.active, coalesce(m.n, 0) as moved
    ), in_queue as (
        update queue set running = running + (select count(*) from taken)
        where name = p_queue and v_queue.global_limit is not null
    )
    -- In turns between lanes, in each by priority and place.
    select * from (
        select lane, id, lease_no, kind, shop, attempt, max_attempts, snoozes, timeout_s,
            coalesce(retry, v_queue.retry), tags, batch_id, created_at, run_at, args
        from taken
        order by row_number() over (partition by lane order by priority, seq), lane
    ) as in_turns
    union all
    select id, null, null, null, null, null, null, null, null, null, null, null, null, null, null
    from served where not active or moved > 0;
end $$;

-- Write down how attempts ended, each only under the lease it ran under. p_verbs: completed,
-- failed, cancelled are final; retry and snooze come after p_delays seconds; release (attempt
-- unspent) and lost (spent, and of a worker counted as a kill) are ready at once. Whatever was told
-- to stop comes back as cancelled. p_unmark: jobs whose marks of
-- once() go, since the effect did not happen or the job is over. Answers a row for each that was
-- not settled, by its place from 1: duplicate, when this lease's end is in history already, or
-- lost. After the commit lanes of released jobs must be woken.
create function settle_jobs(
    p_ids uuid[], p_leases bigint[], p_verbs text[], p_delays double precision[], p_results jsonb[],
    p_errors jsonb[], p_unmark uuid[]
) returns table (o_index integer, o_status text) language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    v_final uuid[];
    v_final_leases bigint[];
    v_other uuid[];
    v_other_leases bigint[];
    v_counted bigint[];
    v_queues text[];
    v_keys bytea[];
    v_dropping text[] := array(select name from queue where drop_on_finish);
    v_back_counted bigint[];
    v_back_queues text[];
    v_ready bigint[];
begin
    with given as (
        select *, verb in ('completed', 'failed', 'cancelled') as is_final
        from unnest(p_ids, p_leases, p_verbs, p_results, p_errors)
            as g (id, lease_no, verb, result, error)
        -- Locked in this order, as everywhere.
        order by id
    ), gone as (
        delete from queue_job j using given g
        -- Not `state = 'running'`: that would lead the planner to the index of running jobs.
        where j.id = g.id and j.lease_no = g.lease_no and (j.state = 'running') is true
            and (g.is_final or j.cancel_requested)
        returning j.*, case when g.is_final then g.verb else 'cancelled' end as verb, g.result,
            g.error
    ), kept as (
        select id, queue, kind, shop, verb, priority, attempt, max_attempts, lease_no, worker,
            run_at, created_at, started_at, batch_id, tags, fingerprint, notify, timeout_s, retry,
            granted, hidden,
            case when redacted then null else progress end as progress,
            case when redacted then '[]' when error is null then errors else errors || error
            end as errors,
            case when hidden then '{}' else args end as args,
            case when hidden then null else result end as result
        from (select *, redacted or queue = any(v_dropping) as hidden from gone) as g
    ), done as (
        insert into queue_job_done
        select id, queue, kind, shop, verb, priority, attempt, max_attempts, lease_no, worker,
            run_at, created_at, started_at, v_now, batch_id, tags, fingerprint, progress, errors,
            args, result, notify, timeout_s, retry, granted, hidden
        from kept where verb in ('completed', 'cancelled')
    ), failed as (
        insert into queue_job_failed
        select id, queue, kind, shop, verb, priority, attempt, max_attempts, lease_no, worker,
            run_at, created_at, started_at, v_now, batch_id, tags, fingerprint, progress, errors,
            args, result, notify, timeout_s, retry, granted, hidden
        from kept where verb = 'failed'
    ), delta as (
        insert into batch_delta (batch_id, completed, failed, cancelled)
        select batch_id, count(*) filter (where verb = 'completed'),
            count(*) filter (where verb = 'failed'), count(*) filter (where verb = 'cancelled')
        from gone where batch_id is not null group by batch_id
    )
    select array_agg(id), array_agg(lease_no), array_agg(lane) filter (where counted),
        array_agg(queue), array_agg(unique_key) filter (where unique_key is not null)
    into v_final, v_final_leases, v_counted, v_queues, v_keys from gone;

    if cardinality(p_ids) > coalesce(cardinality(v_final), 0) then
        with given as (
            select * from unnest(p_ids, p_leases, p_verbs, p_delays, p_errors)
                as g (id, lease_no, verb, delay_s, error)
            where verb in ('retry', 'snooze', 'release', 'lost')
        ), held as (
            select j.id, j.counted, g.verb, g.delay_s, g.error
            from given g join queue_job j on j.id = g.id
            where j.lease_no = g.lease_no and (j.state = 'running') is true
            order by j.id for update of j
        ), back as (
            update queue_job j set
                state = case h.verb when 'retry' then 'retrying' when 'snooze' then 'scheduled'
                    else 'ready' end,
                attempt = j.attempt - (h.verb in ('snooze', 'release'))::integer,
                snoozes = j.snoozes + (h.verb = 'snooze')::integer,
                kills = j.kills + (h.verb = 'lost' and j.worker is not null)::integer,
                run_at = case when h.verb in ('retry', 'snooze')
                    then v_now + make_interval(secs => h.delay_s) else j.run_at end,
                seq = nextval('job_seq'),
                errors = case when h.error is null then j.errors else j.errors || h.error end,
                worker = null, lease_until = null, counted = false
            from held h where j.id = h.id
            returning j.id, j.lease_no, j.lane, j.queue, j.state, h.counted as was_counted
        )
        select array_agg(id), array_agg(lease_no), array_agg(lane) filter (where was_counted),
            array_agg(queue), array_agg(lane) filter (where state = 'ready')
        into v_other, v_other_leases, v_back_counted, v_back_queues, v_ready from back;
    end if;

    if cardinality(p_unmark) > 0 then
        delete from job_mark
        where job_id = any(p_unmark) and (job_id = any(v_final) or job_id = any(v_other));
    end if;
    perform give_back(v_counted || v_back_counted, v_queues || v_back_queues);
    perform activate_lanes(v_ready);
    perform release_claims(v_keys, v_final);

    if coalesce(cardinality(v_final || v_other), 0) = cardinality(p_ids) then
        return;
    end if;
    return query
    select g.n::integer, case when exists (
        select from queue_job_history h where h.id = g.id and h.lease_no = g.lease_no
    ) then 'duplicate' else 'lost' end
    from unnest(p_ids, p_leases) with ordinality as g (id, lease_no, n)
    where not exists (
        select from unnest(v_final || v_other, v_final_leases || v_other_leases)
            as done (id, lease_no)
        where done.id = g.id and done.lease_no = g.lease_no
    );
end $$;

-- Jobs that no longer run make room under the caps of their lanes and the limits of their queues.
create function give_back(p_lanes bigint[], p_queues text[]) returns void language plpgsql as $$
begin
    if p_lanes is null and not exists (select from queue where global_limit is not null) then
        return;
    end if;
    perform name from queue
    where name = any(p_queues) and global_limit is not null order by name for update;
    update queue q set running = greatest(q.running - freed.n, 0)
    from (select name, count(*)::integer as n from unnest(p_queues) as name group by name) as freed
    where q.name = freed.name and q.global_limit is not null;
    if p_lanes is null then
        return;
    end if;
    perform id from lane where id = any(p_lanes) order by id for update;
    update lane l set running = greatest(l.running - freed.n, 0)
    from (select id, count(*)::integer as n from unnest(p_lanes) as id group by id) as freed
    where l.id = freed.id;
end $$;

-- What is due becomes ready. The lanes of what did must be woken after the commit.
create function stage_jobs(p_limit integer) returns bigint[] language plpgsql as $$
declare
    v_lanes bigint[];
begin
    with due as (
        select id from queue_job
        where state in ('scheduled', 'retrying') and run_at <= clock_timestamp()
        order by run_at limit p_limit for update skip locked
    ), moved as (
        update queue_job j set state = 'ready', seq = nextval('job_seq') from due
        where j.id = due.id returning j.lane
    )
    select array_agg(lane) into v_lanes from moved;
    perform activate_lanes(v_lanes);
    return coalesce(v_lanes, '{}');
end $$;

-- Jobs that wait end at once; those that run are told at their worker's next beat. Answers the
-- state each is in now; an id that is not live has no row.
create function cancel_jobs(p_ids uuid[]) returns table (o_id uuid, o_state text)
language plpgsql as $$
declare
    v_gone uuid[];
    v_keys bytea[];
    v_dropping text[] := array(select name from queue where drop_on_finish);
begin
    perform id from queue_job where id = any(p_ids) order by id for update;
    return query update queue_job set cancel_requested = true
    where id = any(p_ids) and (state = 'running') is true returning id, 'running';
    with gone as (
        delete from queue_job where id = any(p_ids) and (state = 'running') is false returning *
    ), done as (
        insert into queue_job_done
        select id, queue, kind, shop, 'cancelled', priority, attempt, max_attempts, lease_no, worker,
            run_at, created_at, started_at, clock_timestamp(), batch_id, tags, fingerprint, progress,
            errors, case when queue = any(v_dropping) then '{}' else args end, null, notify,
            timeout_s, retry, granted, queue = any(v_dropping)
        from gone
    ), delta as (
        insert into batch_delta (batch_id, completed, failed, cancelled)
        select batch_id, 0, 0, count(*) from gone where batch_id is not null group by batch_id
    ), unmarked as (
        delete from job_mark m using gone where m.job_id = gone.id
    )
    select array_agg(id), array_agg(unique_key) filter (where unique_key is not null)
    into v_gone, v_keys from gone;
    perform release_claims(v_keys, v_gone);
    return query select unnest(v_gone), 'cancelled';
end $$;

-- One day of one history table: made beside it, filled with what the overflow holds of that day,
-- then attached, since `partition of` would wait behind every reader. False if it was there.
create function keep_history_day(p_parent text, p_day date) returns boolean language plpgsql as $$
declare
    v_name text := p_parent || to_char(p_day, '_YYYYMMDD');
begin
    if to_regclass(v_name) is not null then
        return false;
    end if;
    execute format('create table %I (like %I including defaults)', v_name, p_parent);
    execute format(
        'alter table %I add constraint %I check (finished_at >= %L and finished_at < %L)',
        v_name, v_name || '_day', p_day, p_day + 1);
    execute format(
        'with moved as (delete from %I where finished_at >= %L and finished_at < %L returning *) '
        'insert into %I select * from moved', p_parent || '_overflow', p_day, p_day + 1, v_name);
    execute format(
        'alter table %I attach partition %I for values from (%L) to (%L)',
        p_parent, v_name, p_day, p_day + 1);
    return true;
end $$;

-- Let go of the days before p_before. Answers how many there were.
create function drop_history_days(p_parent text, p_before date) returns integer
language plpgsql as $$
declare
    v_name text;
    v_dropped integer := 0;
begin
    for v_name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = p_parent::regclass and c.relname ~ '_[0-9]{8}$'
            and to_date(right(c.relname, 8), 'YYYYMMDD') < p_before
    loop
        execute format('alter table %I detach partition %I', p_parent, v_name);
        execute format('drop table %I', v_name);
        v_dropped := v_dropped + 1;
    end loop;
    execute format('delete from %I where finished_at < %L', p_parent || '_overflow', p_before);
    return v_dropped;
end $$;

select keep_history_day(parent, current_date + day)
from unnest(array['queue_job_done', 'queue_job_failed']) as parent, generate_series(0, 3) as day;
