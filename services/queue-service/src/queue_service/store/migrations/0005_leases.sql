-- Pull workers: jobs leased over HTTP. A leased job is running, has no worker and a `lease_until`;
-- after it the lease is lost, whether or not anybody has taken the job since.
alter table queue_job add column lease_s double precision;

-- What a lease call was answered, so that the same call repeated gets the same jobs.
create table lease_call (
    caller text not null,
    queue text not null,
    request_id text not null,
    job_ids uuid[] not null,
    lease_nos bigint[] not null,
    is_repeated boolean not null default false,
    at timestamptz not null default clock_timestamp(),
    primary key (caller, queue, request_id)
);

create index lease_call_age on lease_call (at);

-- Lease up to p_want jobs. A row for each, in order, and one for each lane that ran dry, which must
-- be woken after the commit. With p_request: what the same call got within p_remembered_s seconds,
-- as far as it is still leased under it.
create function lease_jobs(
    p_queue text, p_want integer, p_lanes integer, p_lease_s double precision, p_shop text,
    p_caller text, p_request text, p_remembered_s double precision
) returns table (o_dry bigint, o_job queue_job) language plpgsql as $$
declare
    v_ids uuid[];
    v_leases bigint[];
    v_dry bigint[];
    v_got integer;
begin
    if p_request is not null then
        perform pg_advisory_xact_lock(
            hashtextextended(concat_ws(' ', 'lease', p_caller, p_queue, p_request), 0));
        update lease_call set is_repeated = true
        where caller = p_caller and queue = p_queue and request_id = p_request
            and at > clock_timestamp() - make_interval(secs => p_remembered_s)
        returning job_ids, lease_nos into v_ids, v_leases;
    end if;
    if v_ids is null then
        -- Again for what lanes with little in them left of their shares.
        for v_round in 1..4 loop
            select v_ids || array_agg(o_id) filter (where o_id is not null),
                v_leases || array_agg(o_lease_no) filter (where o_id is not null),
                v_dry || array_agg(o_lane) filter (where o_id is null), count(o_id)
            into v_ids, v_leases, v_dry, v_got
            from claim_jobs(
                p_queue => p_queue, p_worker => null,
                p_want => p_want - coalesce(cardinality(v_ids), 0), p_lanes => p_lanes,
                p_lease_s => p_lease_s, p_shop => p_shop);
            exit when v_got = 0 or cardinality(v_ids) >= p_want;
        end loop;
        if p_request is not null and v_ids is not null then
            insert into lease_call (caller, queue, request_id, job_ids, lease_nos)
            values (p_caller, p_queue, p_request, v_ids, v_leases)
            on conflict (caller, queue, request_id) do update set
                job_ids = excluded.job_ids, lease_nos = excluded.lease_nos, is_repeated = false,
                at = clock_timestamp();
        end if;
    end if;
    return query
        select null::bigint, j
        from unnest(v_ids, v_leases) with ordinality as g (id, lease_no, n)
        join queue_job j on j.id = g.id and j.lease_no = g.lease_no
        where (j.state = 'running') is true
        order by g.n;
    return query select lane, null::queue_job from unnest(v_dry) as lane;
end $$;

-- Settle what is still leased, each job once a call. p_outcomes is what the callers said, p_verbs
-- what settle_jobs is to do about it. Answers a row for each that was not settled, by its place from
-- 1: duplicate, when this lease has been settled so before, or lost.
create function settle_leases(
    p_ids uuid[], p_leases bigint[], p_verbs text[], p_delays double precision[], p_results jsonb[],
    p_errors jsonb[], p_unmark uuid[], p_outcomes text[], p_progress jsonb[]
) returns table (o_index integer, o_status text) language plpgsql as $$
declare
    v_live integer[];
begin
    v_live := array(
        select g.n::integer from unnest(p_ids, p_leases) with ordinality as g (id, lease_no, n)
        join queue_job j on j.id = g.id and j.lease_no = g.lease_no
        where (j.state = 'running') is true and j.lease_until > clock_timestamp()
        order by j.id, g.n for update of j
    );
    v_live := array(select min(n) from unnest(v_live) as n group by p_ids[n]);
    update queue_job j set progress = p_progress[n]
    from unnest(v_live) as n
    where j.id = p_ids[n] and p_progress[n] is not null;
    if cardinality(v_live) > 0 then
        perform settle_jobs(
            array(select p_ids[n] from unnest(v_live) as n),
            array(select p_leases[n] from unnest(v_live) as n),
            array(select p_verbs[n] from unnest(v_live) as n),
            array(select p_delays[n] from unnest(v_live) as n),
            array(select p_results[n] from unnest(v_live) as n),
            array(select p_errors[n] from unnest(v_live) as n),
            array(select id from unnest(p_unmark) as id
                where id = any(array(select p_ids[n] from unnest(v_live) as n))));
    end if;
    if cardinality(v_live) = cardinality(p_ids) then
        return;
    end if;
    return query
    select g.n::integer, case
        when g.outcome = 'completed' and exists (
            select from queue_job_done h
            where h.id = g.id and h.lease_no = g.lease_no and h.state = 'completed'
                -- What was sealed or dropped cannot be compared.
                and (h.redacted or jsonb_typeof(h.args) = 'string'
                    or h.result is not distinct from g.result)
        ) then 'duplicate'
        when exists (
            select from queue_job_history h
            where h.id = g.id and h.lease_no = g.lease_no
                and h.state = case g.outcome when 'cancel' then 'cancelled'
                    when 'failed' then 'failed' when 'discard' then 'failed' end
                and (h.errors -> -1 ->> 'type') is distinct from 'lease_expired'
        ) then 'duplicate'
        when exists (
            select from queue_job j
            where j.id = g.id and j.lease_no = g.lease_no and case g.outcome
                when 'failed' then (j.state = 'running') is false
                    and (j.errors -> -1 ->> 'attempt')::integer = j.attempt
                    and j.errors -> -1 ->> 'type' <> 'lease_expired'
                when 'snooze' then (j.state = 'scheduled') is true
                else false end
        ) then 'duplicate'
        else 'lost' end
    from unnest(p_ids, p_leases, p_outcomes, p_results)
        with ordinality as g (id, lease_no, outcome, result, n)
    where g.n <> all(v_live)
    order by g.n;
end $$;
