-- Settling tells of what has ended, and locks in one order whatever the endings are.

-- One event of a job's end, without what it was about: who may, reads that under its id.
create function job_ended(
    p_id uuid, p_queue text, p_kind text, p_shop text, p_state text, p_attempt integer,
    p_batch uuid, p_errors jsonb, p_at timestamptz
) returns jsonb language sql stable as $$
    select jsonb_build_object(
        'type', 'job.' || p_state || '.v1', 'subject', p_id, 'shop', p_shop,
        'data', jsonb_build_object(
            'job_id', p_id, 'queue', p_queue, 'kind', p_kind, 'shop', p_shop, 'state', p_state,
            'attempt', p_attempt, 'batch_id', p_batch,
            'error_type', case when p_state <> 'completed' then p_errors -> -1 ->> 'type' end,
            'finished_at', to_char(p_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
$$;

-- Events of one moment go out with the transaction that makes them. p_events: {type, subject, shop,
-- data} each, or null for none.
create function tell(p_events jsonb, p_at timestamptz) returns void language sql as $$
    insert into outbox (event_id, type, envelope)
    select id, event ->> 'type', event || jsonb_build_object(
        'specversion', '1.0', 'id', id, 'source', 'queue-service',
        'datacontenttype', 'application/json', 'traceparent', null,
        'time', to_char(p_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    from (
        select gen_random_uuid() as id, event
        from jsonb_array_elements(p_events) with ordinality as g (event, n) order by n
    ) as made
$$;

-- Write down how attempts ended, each only under the lease it ran under. p_verbs: completed,
-- failed, cancelled are final; retry and snooze come after p_delays seconds; release (attempt
-- unspent) and lost (spent, and of a worker counted as a kill) are ready at once. Whatever was told
-- to stop comes back as cancelled. p_unmark: jobs whose marks of once() go, since the effect did not
-- happen or the job is over. Failures are told, other ends of jobs that asked for it. Answers a row
-- for each that was not settled, by its place from 1: duplicate, when this lease's end is in history
-- already, or lost. Empty arrays after p_leases: all completed, with nothing to tell. After the commit
-- lanes of released jobs must be woken.
create or replace function settle_jobs(
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
    v_batches uuid[];
    v_batch_verbs text[];
    v_events jsonb;
    v_dropping text[] := array(select name from queue where drop_on_finish);
    v_back_counted bigint[];
    v_back_queues text[];
    v_ready bigint[];
begin
    -- Ends alone are locked by id as they are deleted; mixed with others they would not be.
    if not p_verbs <@ array['completed', 'failed', 'cancelled'] then
        perform id from queue_job where id = any(p_ids) order by id for update;
    end if;

    -- Each row is made once, as history keeps it.
    with gone as (
        delete from queue_job j
        using (
            select id, lease_no, result, error,
                case when verb in ('completed', 'failed', 'cancelled') then verb end as verb
            from (
                select id, lease_no, coalesce(verb, 'completed') as verb, result, error
                from unnest(p_ids, p_leases, p_verbs, p_results, p_errors)
                    as g (id, lease_no, verb, result, error)
            ) as said
            order by id
        ) as g
        -- Not `state = 'running'`: that would lead the planner to the index of running jobs.
        where j.id = g.id and j.lease_no = g.lease_no and (j.state = 'running') is true
            and (g.verb is not null or j.cancel_requested)
        returning j.id, j.queue, j.kind, j.shop, coalesce(g.verb, 'cancelled') as verb, j.priority,
            j.attempt, j.max_attempts, j.lease_no, j.worker, j.run_at, j.created_at, j.started_at,
            j.batch_id, j.tags, j.fingerprint, case when not j.redacted then j.progress end
            as progress, case when j.redacted then '[]' when g.error is null then j.errors
            else j.errors || g.error end as errors, j.redacted or j.queue = any(v_dropping)
            as hidden, j.args, g.result, j.notify, j.timeout_s, j.retry, j.granted, j.lane,
            j.counted, j.unique_key
    ), done as (
        insert into queue_job_done
        select id, queue, kind, shop, verb, priority, attempt, max_attempts, lease_no, worker,
            run_at, created_at, started_at, v_now, batch_id, tags, fingerprint, progress, errors,
            case when hidden then '{}' else args end, case when not hidden then result end, notify,
            timeout_s, retry, granted, hidden
        from gone where verb <> 'failed'
    ), failed as (
        insert into queue_job_failed
        select id, queue, kind, shop, verb, priority, attempt, max_attempts, lease_no, worker,
            run_at, created_at, started_at, v_now, batch_id, tags, fingerprint, progress, errors,
            case when hidden then '{}' else args end, case when not hidden then result end, notify,
            timeout_s, retry, granted, hidden
        from gone where verb = 'failed'
    )
    select array_agg(id), array_agg(lease_no), array_agg(lane) filter (where counted),
        array_agg(queue), array_agg(unique_key) filter (where unique_key is not null),
        array_agg(batch_id) filter (where batch_id is not null),
        array_agg(verb) filter (where batch_id is not null),
        jsonb_agg(job_ended(id, queue, kind, shop, verb, attempt, batch_id, errors, v_now))
            filter (where verb = 'failed' or notify)
    into v_final, v_final_leases, v_counted, v_queues, v_keys, v_batches, v_batch_verbs, v_events
    from gone;
    if v_batches is not null then
        insert into batch_delta (batch_id, completed, failed, cancelled)
        select batch_id, count(*) filter (where verb = 'completed'),
            count(*) filter (where verb = 'failed'), count(*) filter (where verb = 'cancelled')
        from unnest(v_batches, v_batch_verbs) as ended (batch_id, verb) group by batch_id;
    end if;
    if v_events is not null then
        perform tell(v_events, v_now);
    end if;

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
                -- In a row: an attempt that its handler ended has killed nobody.
                kills = case h.verb when 'lost' then j.kills + (j.worker is not null)::integer
                    when 'release' then j.kills else 0 end,
                run_at = case when h.verb in ('retry', 'snooze')
                    then v_now + make_interval(secs => least(coalesce(h.delay_s, 0), 315360000))
                    else j.run_at end,
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
    if v_ready is not null then
        perform activate_lanes(v_ready);
    end if;
    if v_keys is not null then
        perform release_claims(v_keys, v_final);
    end if;

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

-- Jobs that wait end at once; those that run are told at their worker's next beat. Answers the
-- state each is in now; an id that is not live has no row.
create or replace function cancel_jobs(p_ids uuid[]) returns table (o_id uuid, o_state text)
language plpgsql as $$
declare
    v_now timestamptz;
    v_gone uuid[];
    v_keys bytea[];
    v_events jsonb;
    v_dropping text[] := array(select name from queue where drop_on_finish);
begin
    perform id from queue_job where id = any(p_ids) order by id for update;
    v_now := clock_timestamp();
    return query update queue_job set cancel_requested = true
    where id = any(p_ids) and (state = 'running') is true returning id, 'running';
    with gone as (
        delete from queue_job where id = any(p_ids) and (state = 'running') is false returning *
    ), done as (
        insert into queue_job_done
        select id, queue, kind, shop, 'cancelled', priority, attempt, max_attempts, lease_no, worker,
            run_at, created_at, started_at, v_now, batch_id, tags, fingerprint, progress, errors,
            case when queue = any(v_dropping) then '{}' else args end, null, notify, timeout_s,
            retry, granted, queue = any(v_dropping)
        from gone
    ), delta as (
        insert into batch_delta (batch_id, completed, failed, cancelled)
        select batch_id, 0, 0, count(*) from gone where batch_id is not null group by batch_id
    ), unmarked as (
        delete from job_mark m using gone where m.job_id = gone.id
    )
    select array_agg(id), array_agg(unique_key) filter (where unique_key is not null),
        jsonb_agg(job_ended(id, queue, kind, shop, 'cancelled', attempt, batch_id, '[]', v_now))
            filter (where notify)
    into v_gone, v_keys, v_events from gone;
    if v_events is not null then
        perform tell(v_events, v_now);
    end if;
    perform release_claims(v_keys, v_gone);
    return query select unnest(v_gone), 'cancelled';
end $$;

-- What a shop leaves beside its jobs: schedules that would make more of them, and what the jobs of
-- its batches have in common. Batches that are not over end. Of what came before p_until alone.
create function forget_shop(p_shop text, p_until timestamptz) returns void language plpgsql as $$
begin
    -- Who fires one holds it: its job is there before this goes on.
    delete from schedule where shop = p_shop and created_at < p_until;
    update batch set
        defaults = '{}', on_complete = null, name = '',
        cancelled_at = case when finished_at is null then coalesce(cancelled_at, clock_timestamp())
            else cancelled_at end,
        closed_at = coalesce(closed_at, clock_timestamp())
    where shop = p_shop and created_at < p_until;
    update batch_rejected r set detail = ''
    from batch b where b.id = r.batch_id and b.shop = p_shop and b.created_at < p_until;
end $$;

-- For how many days a queue keeps what its jobs were: {completed_d, failed_d}; what is not said, as
-- long as history is kept. Ids, states and times stay that long anyway, so that none runs again.
alter table queue add column retention jsonb not null default '{}';

-- How far this has been done: a day of one history table for one queue, by id.
create table history_sweep (
    queue text not null,
    parent text not null,
    day date not null,
    after_id uuid not null default '00000000-0000-0000-0000-000000000000',
    is_done boolean not null default false,
    primary key (parent, day, queue)
);

-- Forget what the next p_limit jobs were, in one day of one queue whose time is over. True if there
-- may be more. Two at once: one does it.
create function forget_history(p_limit integer) returns boolean language plpgsql as $$
declare
    v_sweep history_sweep;
    v_last uuid;
begin
    insert into history_sweep (queue, parent, day)
    select q.name, d.parent, d.day
    from queue q join (
        select p.relname as parent, to_date(right(c.relname, 8), 'YYYYMMDD') as day
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        join pg_class p on p.oid = i.inhparent
        where p.relname in ('queue_job_done', 'queue_job_failed')
            and p.relnamespace = current_schema()::regnamespace and c.relname ~ '_[0-9]{8}$'
    ) as d on d.day < (clock_timestamp() at time zone 'utc')::date
        - (q.retention ->> case d.parent when 'queue_job_done' then 'completed_d' else 'failed_d'
            end)::integer
    where not exists (
        select from history_sweep s
        where s.parent = d.parent and s.day = d.day and s.queue = q.name
    )
    order by d.parent, d.day, q.name
    on conflict do nothing;

    select * into v_sweep from history_sweep where not is_done
    order by parent, day, queue limit 1 for update skip locked;
    if v_sweep is null then
        return false;
    end if;
    -- The day is written out, so that the others are not even opened.
    execute format(
        'with seen as ('
        '    select id, queue, redacted from %1$I where finished_at >= %2$L and finished_at < %3$L'
        '    and id > $1 order by id limit $2'
        '), gone as ('
        '    update %1$I h set args = ''{}'', result = null, progress = null, errors = ''[]'','
        '        tags = ''{}'', redacted = true'
        '    from seen s where h.finished_at >= %2$L and h.finished_at < %3$L and h.id = s.id'
        '    and s.queue = $3 and not s.redacted'
        ') select id from seen order by id desc limit 1',
        v_sweep.parent, v_sweep.day, v_sweep.day + 1
    ) into v_last using v_sweep.after_id, p_limit, v_sweep.queue;
    update history_sweep s set after_id = coalesce(v_last, after_id), is_done = v_last is null
    where s.parent = v_sweep.parent and s.day = v_sweep.day and s.queue = v_sweep.queue;
    return true;
end $$;

-- What unique jobs, sweeps, events and days that are gone leave behind. How many rows went.
create or replace function forget_leavings(p_days integer, p_limit integer) returns bigint
language sql as $$
    with aliases as (
        delete from job_alias where id in (
            select id from job_alias
            where created_at < clock_timestamp() - make_interval(days => p_days)
            limit p_limit
        ) returning id
    ), sweeps as (
        delete from job_sweep where id in (
            select id from job_sweep
            where finished_at < clock_timestamp() - make_interval(days => p_days) limit p_limit
        ) returning id
    ), events as (
        -- Nobody wants to hear them any more, or nobody is there who ever would.
        delete from outbox where id in (select id from outbox order by id limit p_limit)
            and created_at < clock_timestamp() - make_interval(days => p_days)
    ), days as (
        delete from history_sweep
        where day < (clock_timestamp() at time zone 'utc')::date - p_days - 2
    )
    select (select count(*) from aliases) + (select count(*) from sweeps) + forget_claims(p_limit)
$$;

call pin_plans(array['settle_jobs', 'cancel_jobs', 'tell']);
