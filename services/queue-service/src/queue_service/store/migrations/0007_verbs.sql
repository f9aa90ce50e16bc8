-- What an operator may ask of jobs that are there: again, now, all that match.

-- Of `max_attempts`, so many were granted by hand; a job keeps what it needs to live again.
alter table queue_job add column granted integer not null default 0;
alter table queue_job_done
    add column notify boolean, add column timeout_s double precision, add column retry jsonb,
    add column granted integer not null default 0;
alter table queue_job_failed
    add column notify boolean, add column timeout_s double precision, add column retry jsonb,
    add column granted integer not null default 0;

-- A batch whose jobs live again ends again, in silence: what follows it has followed.
alter table batch add column reopened boolean not null default false;

-- Failed and cancelled jobs are ready again, as many attempts before them as they had at first, and
-- leave history in the statement in which they live. Jobs of cancelled batches stay where they are.
-- Answers what lives now. The lanes must be woken after the commit.
create function retry_jobs(p_ids uuid[]) returns table (o_id uuid, o_lane bigint)
language plpgsql as $$
declare
    v_ids uuid[];
    v_lanes bigint[];
    v_batches uuid[];
begin
    -- A batch first, as whoever fills it: it must not end while its counters go back.
    perform id from batch where id in (
        select h.batch_id from queue_job_history h where h.id = any(p_ids)
    ) order by id for update;
    with chosen as (
        select h.id from (
            select id, queue, shop, state, batch_id, redacted from queue_job_done
            union all
            select id, queue, shop, state, batch_id, redacted from queue_job_failed
        ) as h
        join lane l on l.queue = h.queue and l.shop = coalesce(h.shop, '')
        join queue q on q.name = h.queue
        left join batch b on b.id = h.batch_id
        where h.id = any(p_ids) and h.state in ('failed', 'cancelled') and b.cancelled_at is null
            and not h.redacted
    ), done as (
        delete from queue_job_done where id in (select id from chosen) and state = 'cancelled'
        returning *
    ), failed as (
        delete from queue_job_failed where id in (select id from chosen) and state = 'failed'
        returning *
    ), back as (
        insert into queue_job (
            id, lane, queue, kind, shop, state, priority, attempt, max_attempts, granted, lease_no,
            notify, timeout_s, run_at, created_at, started_at, batch_id, tags, retry, fingerprint,
            progress, errors, args
        )
        select h.id, l.id, h.queue, h.kind, h.shop, 'ready', h.priority, h.attempt,
            h.max_attempts - h.granted + h.attempt, h.attempt, h.lease_no,
            coalesce(h.notify, false), h.timeout_s, clock_timestamp(), h.created_at, h.started_at,
            h.batch_id, h.tags, h.retry, h.fingerprint, h.progress, h.errors, h.args
        from (select * from done union all select * from failed) as h
        join lane l on l.queue = h.queue and l.shop = coalesce(h.shop, '')
        returning id, lane, batch_id
    ), unmarked as (
        delete from job_mark where job_id in (select id from back)
    ), counted as (
        update batch b set
            cancelled = b.cancelled - g.cancelled, failed = b.failed - g.failed,
            reopened = b.reopened or b.finished_at is not null, finished_at = null
        from (
            select h.batch_id, count(*) filter (where h.state = 'cancelled') as cancelled,
                count(*) filter (where h.state = 'failed') as failed
            from (
                select id, batch_id, state from done union all
                select id, batch_id, state from failed
            ) as h join back on back.id = h.id
            where h.batch_id is not null group by h.batch_id
        ) as g
        where b.id = g.batch_id
    )
    select array_agg(id), array_agg(distinct lane) into v_ids, v_lanes from back;
    perform activate_lanes(v_lanes);
    return query select j.id, j.lane from queue_job j where j.id = any(v_ids);
end $$;

-- What waits for its time is ready now. The lanes must be woken after the commit.
create function run_jobs_now(p_ids uuid[]) returns bigint[] language plpgsql as $$
declare
    v_lanes bigint[];
begin
    perform id from queue_job where id = any(p_ids) order by id for update;
    with moved as (
        update queue_job set state = 'ready', run_at = clock_timestamp(), seq = nextval('job_seq')
        where id = any(p_ids) and (state in ('scheduled', 'retrying')) is true
        returning lane
    )
    select array_agg(distinct lane) into v_lanes from moved;
    perform activate_lanes(v_lanes);
    return coalesce(v_lanes, '{}');
end $$;

-- Requests for all jobs that match, applied in steps, newest first: those before (at_created, at_id)
-- have not had their turn. Jobs made after the request have none.
create table job_sweep (
    id uuid primary key,
    verb text not null check (verb in ('cancel', 'retry', 'redact')),
    filter jsonb not null,
    matched bigint not null,
    applied bigint not null default 0,
    at_created timestamptz not null,
    at_id uuid not null default '00000000-0000-0000-0000-000000000000',
    fingerprint text not null,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);

create index job_sweep_open on job_sweep (created_at) where finished_at is null;

-- What unique jobs and sweeps leave behind when its time is over. How many rows went.
create function forget_leavings(p_days integer, p_limit integer) returns bigint language sql as $$
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
    )
    select (select count(*) from aliases) + (select count(*) from sweeps) + forget_claims(p_limit)
$$;
