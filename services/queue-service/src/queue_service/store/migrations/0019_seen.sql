-- How deep queues are, and how long their jobs have waited, in a time that does not grow with them.

-- What waits in a queue that was paused has waited for a worker since this only.
alter table queue add column resumed_at timestamptz;
-- When the progress of a batch was told of last.
alter table batch add column told_at timestamptz;

-- Of a table that is too big to be counted: up to p_most jobs of a state (of a queue, if they are
-- ready) are counted by its index, and beyond that a sample of a thousand pages judges.
create function sampled_depths(p_most integer) returns table (
    o_queue text, o_state text, o_jobs bigint, o_is_estimate boolean
) language sql stable as $$
    with counted as materialized (
        select queue, 'running' as state, count(*) as jobs,
            sum(count(*)) over () > p_most as is_cut
        from (
            select queue from queue_job where state = 'running' limit p_most + 1
        ) as running group by queue
        union all
        select queue, state, count(*), sum(count(*)) over () > p_most
        from (
            select queue, state from queue_job where state in ('scheduled', 'retrying')
            order by run_at limit p_most + 1
        ) as due group by queue, state
        union all
        select queue, 'held', count(*), sum(count(*)) over () > p_most
        from (
            select j.queue from batch b join queue_job j on j.batch_id = b.id and j.state = 'held'
            where b.finished_at is null limit p_most + 1
        ) as held group by queue
        union all
        select q.name, 'ready', r.jobs, r.jobs > p_most
        from queue q cross join lateral (
            select count(*) as jobs from (
                select from lane l join queue_job j on j.lane = l.id and j.state = 'ready'
                where l.queue = q.name and l.active limit p_most + 1
            ) as ready
        ) as r
        where r.jobs > 0
    ), size as (
        select greatest(pg_relation_size('queue_job') / 1000.0
            / current_setting('block_size')::integer, 1)::real as thousands
    ), sampled as (
        select queue, state, (count(*) * (select thousands from size))::bigint as jobs
        from queue_job tablesample system ((select 100 / thousands from size))
        where exists (select from counted where is_cut)
        group by queue, state
    )
    select queue, state, max(jobs), bool_or(is_estimate) from (
        select queue, state, jobs, is_cut as is_estimate from counted
        union all
        select queue, state, jobs, true from sampled s
        where exists (
            select from counted c
            where c.is_cut and c.state = s.state and (c.state <> 'ready' or c.queue = s.queue)
                or c.is_cut and c.state in ('scheduled', 'retrying')
                and s.state in ('scheduled', 'retrying')
        )
    ) as judged group by queue, state
$$;

-- Jobs by queue and state; states without any have no row. Counted, as long as the table is small.
create function queue_depths(p_queues text[]) returns table (
    o_queue text, o_state text, o_jobs bigint, o_is_estimate boolean
) language plpgsql stable as $$
begin
    if pg_relation_size('queue_job') <= 16 * 1024 * 1024 then
        return query select j.queue, j.state, count(*), false from queue_job j
            where j.queue = any(p_queues) group by j.queue, j.state;
    else
        return query select d.* from sampled_depths(20000) d where d.o_queue = any(p_queues);
    end if;
end $$;

-- For how long the oldest job has waited for a worker, in seconds; null when none does. What is
-- paused, parked or at its limit does not wait for a worker. Of many lanes, the five hundred whose
-- turn is next are looked at.
create function oldest_ready_age(p_queue text) returns double precision language sql stable as $$
    select extract(epoch from
        clock_timestamp() - greatest(min(head.run_at), min(q.resumed_at)))::float8
    from queue q
    cross join lateral (
        select id from (
            select id, vtime from lane where queue = q.name and is_open limit 5000
        ) as open_ones order by vtime limit 500
    ) as l
    cross join generate_series(0, 9) as p (priority)
    cross join lateral (
        select j.run_at from queue_job j
        where j.lane = l.id and j.state = 'ready' and j.priority = p.priority
        order by j.seq limit 1
    ) as head
    where q.name = p_queue and not q.paused
        and (q.global_limit is null or q.running < q.global_limit)
$$;

call pin_plans(array['sampled_depths', 'oldest_ready_age']);
