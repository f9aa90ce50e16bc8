-- The way in, leaner, and past the queue where nobody waits in it.

-- How many fresh jobs of a queue may be given to a worker that has nothing to do, without its asking:
-- they are stored as leased to it and travel in a notification on its channel. Nothing that must
-- last: after a crash of the database workers offer anew.
create unlogged table credit (
    queue text collate "C" not null,
    worker uuid not null references worker (id) on delete cascade,
    channel text not null,
    slots integer not null,
    primary key (queue, worker)
) with (fillfactor = 50);

create function refuse_unsealed() returns jsonb language plpgsql as $$
begin
    raise exception 'args are to be sealed' using errcode = 'MS001';
end $$;

-- A worker for each job, if every one of them may start at once: nothing waits in its queue, and
-- neither queue nor lane is held back by anything. Else null. The credit is locked, not spent.
create function find_hands(p_lanes bigint[]) returns uuid[] language plpgsql as $$
declare
    v_workers uuid[];
begin
    if exists (
        select from unnest(p_lanes) as g (id)
        left join lane l on l.id = g.id left join queue q on q.name = l.queue
        where (
            not l.active and not l.paused and l.cap is null and l.not_before is null
            and not q.paused and q.global_limit is null and q.served_by = 'worker'
            and not exists (select from lane o where o.queue = l.queue and o.is_open)
        ) is not true
    ) then
        return null;
    end if;
    with wanted as (
        select g.n, l.queue, row_number() over (partition by l.queue order by g.n) as place
        from unnest(p_lanes) with ordinality as g (id, n) join lane l on l.id = g.id
    ), open as materialized (
        -- A worker that is frozen or cut off is given nothing more after two beats.
        select c.queue, c.worker, c.slots from credit c join worker w on w.id = c.worker
        where c.queue in (select queue from wanted) and c.slots > 0
            and w.beat_at > clock_timestamp() - interval '5 seconds'
        order by c.slots desc limit cardinality(p_lanes) for update of c skip locked
    ), hands as (
        select queue, worker,
            row_number() over (partition by queue order by s, slots desc, worker) as place
        from open, generate_series(1, least(slots, cardinality(p_lanes))) as s
    )
    select array_agg(h.worker order by w.n) into v_workers
    from wanted w left join hands h on h.queue = w.queue and h.place = w.place;
    if array_position(v_workers, null) is not null then
        return null;
    end if;
    return v_workers;
end $$;

-- Tell the workers of the jobs that have been stored as theirs. What has changed meanwhile, or does
-- not fit, becomes ready instead and its lane must be woken after the commit. True if all are told.
-- The lanes are held until the commit, so that a cap that is being set finds these jobs running;
-- only while they sleep, since a claimer passes over lanes that are held.
create function hand_over(p_ids uuid[], p_lanes bigint[]) returns boolean language plpgsql as $$
declare
    v_lanes bigint[] := array(
        select id from lane
        where id = any(p_lanes) and not active and not paused and cap is null
            and not_before is null
        for share skip locked
    );
    v_told uuid[] := '{}';
    v_job record;
begin
    for v_job in
        select j.id, c.channel, jsonb_build_array(
            j.worker, j.id, j.lease_no, j.lane, j.queue, j.kind, j.shop, j.attempt,
            j.max_attempts, j.timeout_s, coalesce(j.retry, q.retry), j.tags, j.created_at,
            j.run_at, j.args)::text as payload
        from queue_job j
        join queue q on q.name = j.queue
        join credit c on c.queue = j.queue and c.worker = j.worker
        where j.id = any(p_ids) and j.lane = any(v_lanes) and not q.paused
            and q.global_limit is null
    loop
        if octet_length(v_job.payload) < 8000 then
            perform pg_notify(v_job.channel, v_job.payload);
            v_told := v_told || v_job.id;
        end if;
    end loop;
    update credit c set slots = c.slots - t.jobs
    from (
        select queue, worker, count(*)::integer as jobs from queue_job
        where id = any(v_told) group by queue, worker
    ) as t
    where c.queue = t.queue and c.worker = t.worker;
    if cardinality(v_told) = cardinality(p_ids) then
        return true;
    end if;
    update queue_job set
        state = 'ready', seq = nextval('job_seq'), attempt = 0, worker = null, started_at = null
    where id = any(p_ids) and id <> all(v_told);
    return false;
end $$;

-- Store new jobs, each once; arrays may be shorter than p_ids where only defaults would follow. Ids
-- that others know must come sorted, since an insert of one of them waits for another's. One row:
-- o_max_attempts has an element for each job if all were created; else o_each does: [verdict, id,
-- state, run_at, created_at, max_attempts], of live jobs all. Verdicts: created; existing (same id
-- or key, same body; the id is the job's), merged (as existing, into a unique job), id_taken,
-- key_reused, unknown_queue. o_handed: all that were ready are with workers already.
-- The ids of p_check are looked for in history in a later statement than the insert: a job settled
-- in between would be in neither for a single one. p_since: none of them can have been settled
-- earlier. A job that is handed over has seq 0: it has never waited.
create function store_jobs(
    p_ids uuid[], p_lanes bigint[], p_kinds text[], p_fingerprints text[], p_args text[],
    p_priorities smallint[], p_run_ats timestamptz[], p_created_ats timestamptz[],
    p_max_attempts integer[], p_timeouts double precision[], p_notify boolean[], p_tags text[],
    p_retries jsonb[], p_batches uuid[], p_held boolean[], p_scopes text[], p_keys text[],
    p_check uuid[], p_since timestamptz, p_may_hand boolean,
    out o_now timestamptz, out o_max_attempts integer[], out o_each jsonb, out o_handed boolean
) language plpgsql as $$
declare
    v_targets uuid[] := p_ids;
    v_reused boolean[];
    v_new boolean[];
    v_taken jsonb;
    v_workers uuid[];
    v_ids uuid[];
    v_lanes bigint[];
    v_settled uuid[];
begin
    o_now := clock_timestamp();
    o_handed := false;
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
    -- Nested: a condition that looks into a table costs a statement of its own.
    if p_may_hand then
        if cardinality(p_run_ats || p_created_ats) = 0 and cardinality(p_batches) = 0
            and cardinality(p_held) = 0 and exists (select from credit where slots > 0)
        then
            v_workers := find_hands(p_lanes);
        end if;
    end if;

    with inserted as (
        insert into queue_job (
            id, lane, queue, kind, shop, state, priority, seq, attempt, max_attempts, lease_no,
            worker, started_at, notify, timeout_s, run_at, created_at, batch_id, tags, retry,
            fingerprint, args
        )
        select
            g.id, l.id, l.queue, g.kind, nullif(l.shop, ''),
            case when g.worker is not null then 'running' when g.held then 'held'
                when g.run_at > o_now then 'scheduled' else 'ready' end,
            coalesce(g.priority, 5),
            case when g.worker is null then nextval('job_seq') else 0 end,
            (g.worker is not null)::integer, coalesce(g.max_attempts, q.max_attempts),
            (g.worker is not null)::integer, g.worker,
            case when g.worker is not null then o_now end,
            coalesce(g.notify, false), g.timeout_s, coalesce(g.run_at, g.created_at, o_now),
            coalesce(g.created_at, o_now), g.batch_id, coalesce(g.tags, '{}')::text[], g.retry,
            g.fingerprint,
            case when q.sealed and left(g.args, 1) <> '"' then refuse_unsealed()
                else g.args::jsonb end
        from unnest(
            p_ids, v_targets, v_reused, v_new, v_workers, p_lanes, p_kinds, p_fingerprints, p_args,
            p_priorities, p_run_ats, p_created_ats, p_max_attempts, p_timeouts, p_notify, p_tags,
            p_retries, p_batches, p_held
        ) with ordinality as g (
            id, target, reused, new, worker, lane, kind, fingerprint, args, priority, run_at,
            created_at, max_attempts, timeout_s, notify, tags, retry, batch_id, held, n
        )
        join lane l on l.id = g.lane
        join queue q on q.name = l.queue
        where g.new is not false and g.reused is not true and g.target = g.id
        order by g.n
        on conflict (id) do nothing
        returning id, state, max_attempts, lane
    )
    select coalesce(array_agg(id), '{}'), array_agg(max_attempts),
        array_agg(lane) filter (where state = 'ready')
    into v_ids, o_max_attempts, v_lanes from inserted;

    if cardinality(p_check) > 0 then
        select array_agg(distinct h.id) into v_settled from queue_job_history h
        where h.id = any(p_check) and h.finished_at >= coalesce(p_since, '-infinity')
            and h.finished_at < o_now + interval '1 day' and h.id = any(v_ids);
        v_settled := v_settled || array(
            select a.id from job_alias a where a.id = any(p_check) and a.id = any(v_ids));
    end if;
    if cardinality(v_settled) > 0 then
        delete from queue_job where id = any(v_settled);
        v_ids := array(select id from unnest(v_ids) as id where id <> all(v_settled));
        v_lanes := array(
            select lane from queue_job where id = any(v_ids) and (state = 'ready') is true);
    end if;

    if v_workers is not null then
        o_handed := hand_over(v_ids, p_lanes);
    elsif v_lanes is not null then
        perform activate_lanes(v_lanes);
    end if;
    if cardinality(v_ids) = cardinality(p_ids) then
        return;
    end if;

    o_max_attempts := null;
    select jsonb_agg(
        jsonb_build_array(
            case
                when g.fits and g.id = any(v_ids) and g.turn = 1 then 'created'
                when not g.known then 'unknown_queue'
                when g.reused then 'key_reused'
                when a.fingerprint = g.fingerprint and coalesce(a.shop, '') = g.shop then 'merged'
                when a.id is not null then 'id_taken'
                when coalesce(j.fingerprint, h.fingerprint) = g.fingerprint
                    and coalesce(j.shop, h.shop, '') = g.shop then 'existing'
                -- A key outlives its job's history.
                when j.id is null and h.id is null then 'existing'
                else 'id_taken'
            end,
            coalesce(a.job_id, g.target), j.state, j.run_at, j.created_at, j.max_attempts
        ) order by g.n
    ) into o_each
    from (
        select f.*, row_number() over (partition by f.id, f.fits order by f.n) as turn
        from (
            select u.id, u.target, u.fingerprint, u.n, u.reused, l.shop, q.name is not null as known,
                q.name is not null and u.new is not false and u.reused is not true
                    and u.target = u.id as fits
            from unnest(p_ids, v_targets, v_reused, v_new, p_lanes, p_fingerprints)
                with ordinality as u (id, target, reused, new, lane, fingerprint, n)
            left join lane l on l.id = u.lane
            left join queue q on q.name = l.queue
        ) as f
    ) as g
    left join queue_job j on j.id = g.target
    left join lateral (
        select s.id, s.fingerprint, s.shop from queue_job_history s
        where s.id = g.target and j.id is null limit 1
    ) h on true
    left join job_alias a on a.id = g.target and j.id is null and h.id is null;
end $$;

-- As store_jobs, in rows: those without o_index are what was created; if that is not all, rows with
-- o_index (from 1) tell of each job.
create or replace function enqueue_jobs(
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
    v_each jsonb := (
        select s.o_each from store_jobs(
            p_ids, p_lanes, p_kinds, p_fingerprints, p_args::text[], p_priorities, p_run_ats,
            p_created_ats, p_max_attempts, p_timeouts, p_notify, p_tags, p_retries, p_batches,
            p_held, p_scopes, p_keys, p_check, p_since, false) as s);
begin
    if v_each is null then
        return query
        select null::integer, 'created', j.id, j.state, j.run_at, j.created_at, j.max_attempts
        from queue_job j where j.id = any(p_ids);
        return;
    end if;
    return query
    select case when e.one ->> 0 = 'created' and not w.indexed then null else e.n end::integer,
        e.one ->> 0, (e.one ->> 1)::uuid, e.one ->> 2, (e.one ->> 3)::timestamptz,
        (e.one ->> 4)::timestamptz, (e.one ->> 5)::integer
    from jsonb_array_elements(v_each) with ordinality as e (one, n)
    cross join (values (false), (true)) as w (indexed)
    where w.indexed or e.one ->> 0 = 'created';
end $$;

call pin_plans(array['store_jobs', 'enqueue_jobs']);
