-- Unique jobs. Who enqueues takes the key, who settles gives it back; no change of a job's state
-- ever takes one, so that none can fail for it.

alter table queue_job add column unique_key bytea;

-- `live`: it holds while its job lives; `until`: it holds till then, whatever became of the job.
create table unique_claim (
    key bytea primary key,
    job_id uuid not null,
    live boolean not null,
    until timestamptz
) with (fillfactor = 70);

create index unique_claim_until on unique_claim (until) where until is not null;

-- Ids that somebody was told and that were merged into another job: they are that job.
create table job_alias (
    id uuid primary key,
    job_id uuid not null,
    fingerprint text not null,
    shop text,
    created_at timestamptz not null default clock_timestamp()
);

create index job_alias_age on job_alias (created_at);

-- A claim that holds only while its job lives goes with it; one of a window that is over, too.
create function release_claims(p_keys bytea[], p_jobs uuid[]) returns void language plpgsql as $$
begin
    if p_keys is null then
        return;
    end if;
    delete from unique_claim where key in (
        select key from unique_claim
        where key = any(p_keys) and job_id = any(p_jobs)
            and (until is null or until <= clock_timestamp())
        order by key for update
    );
end $$;

-- Change what waits under a key as its newcomer asks; what runs stays as it is. One that is due
-- now is left to the stager. The holder is locked. No lane is touched.
create function change_holder(
    p_job uuid, p_conflict text, p_args jsonb, p_priority smallint, p_run_at timestamptz,
    p_window double precision
) returns void language sql as $$
    update queue_job j set
        args = case when p_conflict = 'replace' then p_args else j.args end,
        priority = case when p_conflict = 'replace' then coalesce(p_priority, 5) else j.priority end,
        run_at = w.run_at,
        state = case when j.state = 'ready' and w.run_at > clock_timestamp() then 'scheduled'
            else j.state end
    from (
        select id, case when p_conflict = 'replace' then coalesce(p_run_at, clock_timestamp())
            -- A stream of newcomers puts it off no longer than a window, or else a year.
            else greatest(run_at, least(
                coalesce(p_run_at, clock_timestamp()),
                created_at + make_interval(secs => coalesce(p_window, 366 * 86400.0))))
        end as run_at
        from queue_job where id = p_job
    ) as w
    where j.id = w.id and (j.state = 'running') is false and p_conflict in ('replace', 'extend')
$$;

-- As enqueue_jobs, for jobs that each have a key (no key twice in two calls at once: they wait for
-- each other). Two more verdicts: merged (o_id is the job that it has become; told ids have an
-- alias) and unique_conflict (o_id holds the key). Locks: newcomers' keys, jobs by id, lanes, claims
-- by key; who settles takes the last three in the same order.
create function enqueue_unique_jobs(
    p_ids uuid[], p_lanes bigint[], p_kinds text[], p_fingerprints text[], p_args jsonb[],
    p_priorities smallint[], p_run_ats timestamptz[], p_created_ats timestamptz[],
    p_max_attempts integer[], p_timeouts double precision[], p_notify boolean[], p_tags text[],
    p_retries jsonb[], p_batches uuid[], p_held boolean[], p_scopes text[], p_keys text[],
    p_check uuid[], p_since timestamptz, p_uniques bytea[], p_windows double precision[],
    p_live boolean[], p_states text[], p_conflicts text[]
) returns table (
    o_index integer, o_verdict text, o_id uuid, o_state text, o_run_at timestamptz,
    o_created_at timestamptz, o_max_attempts integer
) language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    -- Places of those to be stored, and of those among them that take their key.
    v_take integer[] := '{}';
    v_first integer[] := '{}';
    v_last bytea;
    v_last_at integer;
    v_created uuid[] := '{}';
    v_known boolean;
    v_holder uuid;
    i integer;
begin
    perform pg_advisory_xact_lock(hashtextextended(encode(key, 'hex'), 20))
    from (select distinct key from unnest(p_uniques) as key order by key) as sorted;
    -- Whoever settles one of these is done, or waits: what is read of them next holds.
    perform j.id from queue_job j
    where j.id in (select c.job_id from unique_claim c where c.key = any(p_uniques))
    order by j.id for update;

    for i in select n from unnest(p_uniques) with ordinality as g (key, n) order by key, n loop
        -- The own id and the Idempotency-Key speak before the unique one.
        select not exists (
                select from lane l join queue q on q.name = l.queue where l.id = p_lanes[i])
            or exists (
                select from idempotency_key k where k.scope = p_scopes[i] and k.key = p_keys[i])
            or (p_ids[i] = any(p_check) and (
                exists (select from queue_job where id = p_ids[i])
                or exists (select from job_alias where id = p_ids[i])
                or exists (
                    select from queue_job_history h where h.id = p_ids[i]
                    and h.finished_at >= coalesce(p_since, '-infinity'))))
        into v_known;
        if v_known then
            v_take := v_take || i;
            continue;
        end if;

        if p_uniques[i] = v_last then
            v_holder := p_ids[v_last_at];
        else
            v_last_at := null;
            v_holder := (
                select c.job_id from unique_claim c left join queue_job j on j.id = c.job_id
                where c.key = p_uniques[i] and (
                    c.until > v_now or (c.live and j.state = any(p_states[i]::text[]))));
        end if;
        if v_last_at is not null and v_holder = p_ids[i] then
            v_take := v_take || i;
            continue;
        end if;
        if v_holder is null then
            v_take := v_take || i;
            v_first := v_first || i;
            v_last := p_uniques[i];
            v_last_at := i;
            continue;
        end if;
        if p_conflicts[i] = 'reject' then
            return query select i, 'unique_conflict', v_holder, null::text, null::timestamptz,
                null::timestamptz, null::integer;
            continue;
        end if;

        if p_keys[i] is not null then
            insert into idempotency_key (scope, key, job_id, fingerprint)
            values (p_scopes[i], p_keys[i], p_ids[i], p_fingerprints[i]) on conflict do nothing;
            if not found then
                v_take := v_take || i;
                continue;
            end if;
        end if;
        if v_last_at is null then
            perform change_holder(v_holder, p_conflicts[i], p_args[i], p_priorities[i],
                p_run_ats[i], p_windows[i]);
        elsif p_conflicts[i] = 'replace' then
            p_args[v_last_at] := p_args[i];
            p_priorities[v_last_at] := p_priorities[i];
            p_run_ats[v_last_at] := p_run_ats[i];
        elsif p_conflicts[i] = 'extend' then
            p_run_ats[v_last_at] := greatest(p_run_ats[v_last_at], p_run_ats[i]);
        end if;
        -- An id that nobody was told needs no alias, unless a key stands for it.
        insert into job_alias (id, job_id, fingerprint, shop)
        select p_ids[i], v_holder, p_fingerprints[i], nullif(l.shop, '') from lane l
        where l.id = p_lanes[i] and (p_ids[i] = any(p_check) or p_keys[i] is not null)
            and p_ids[i] <> v_holder
        on conflict do nothing;
        return query select i, 'merged', v_holder, null::text, null::timestamptz,
            null::timestamptz, null::integer;
    end loop;
    if v_take = '{}' then
        return;
    end if;

    for o_index, o_verdict, o_id, o_state, o_run_at, o_created_at, o_max_attempts in
        select e.* from enqueue_jobs(
            array(select p_ids[t] from unnest(v_take) as t),
            array(select p_lanes[t] from unnest(v_take) as t),
            array(select p_kinds[t] from unnest(v_take) as t),
            array(select p_fingerprints[t] from unnest(v_take) as t),
            array(select p_args[t] from unnest(v_take) as t),
            array(select p_priorities[t] from unnest(v_take) as t),
            array(select p_run_ats[t] from unnest(v_take) as t),
            array(select p_created_ats[t] from unnest(v_take) as t),
            array(select p_max_attempts[t] from unnest(v_take) as t),
            array(select p_timeouts[t] from unnest(v_take) as t),
            array(select p_notify[t] from unnest(v_take) as t),
            array(select p_tags[t] from unnest(v_take) as t),
            array(select p_retries[t] from unnest(v_take) as t),
            array(select p_batches[t] from unnest(v_take) as t),
            array(select p_held[t] from unnest(v_take) as t),
            array(select p_scopes[t] from unnest(v_take) as t where cardinality(p_keys) > 0),
            array(select p_keys[t] from unnest(v_take) as t where cardinality(p_keys) > 0),
            p_check, p_since) as e
    loop
        if o_index is null then
            v_created := v_created || o_id;
        else
            o_index := v_take[o_index];
        end if;
        return next;
    end loop;

    -- Nobody takes these keys meanwhile; what stands there is void.
    insert into unique_claim (key, job_id, live, until)
    select p_uniques[t], p_ids[t], p_live[t],
        coalesce(p_created_ats[t], v_now) + make_interval(secs => p_windows[t])
    from unnest(v_first) as t where p_ids[t] = any(v_created) order by p_uniques[t]
    on conflict (key) do update
    set job_id = excluded.job_id, live = excluded.live, until = excluded.until;
    update queue_job j set unique_key = p_uniques[t]
    from unnest(v_first) as t where j.id = p_ids[t] and p_ids[t] = any(v_created);
end $$;

-- Claims of windows that are over and have no live job. A taker that finds one gone makes it anew.
create function forget_claims(p_limit integer) returns bigint language sql as $$
    with gone as (
        delete from unique_claim where key in (
            select c.key from unique_claim c
            where c.until < clock_timestamp() and not (
                c.live and exists (select from queue_job j where j.id = c.job_id))
            order by c.until limit p_limit for update skip locked
        ) returning key
    )
    select count(*) from gone
$$;
