-- Take jobs that somebody names, for a worker that is alive and found nothing ready: those that are
-- ready in this queue and could be claimed from their lanes now. Whatever else is named (running,
-- settled, of another queue, of nobody) is not there for it, so the names may come from anywhere.
-- It never waits: what others hold at this moment is left to the claim of lanes, and so is what a
-- paused or cancelled batch has left in a lane. Lanes that gave what they had go on being active.
-- Answers what take_jobs does of a job, up to its args.
create function claim_named_jobs(p_queue text, p_worker uuid, p_ids uuid[]) returns table (
    o_lane bigint, o_id uuid, o_lease_no bigint, o_kind text, o_shop text, o_attempt integer,
    o_max_attempts integer, o_snoozes integer, o_timeout_s double precision, o_retry text,
    o_tags text[], o_batch_id uuid, o_created_at timestamptz, o_run_at timestamptz, o_args text
) language plpgsql as $$
declare
    v_queue queue%rowtype;
    v_want integer := cardinality(p_ids);
    v_lanes bigint[];
    v_rooms integer[];
    v_ids uuid[];
begin
    select * into v_queue from queue where name = p_queue;
    if v_queue.paused or (v_queue.served_by = 'worker') is not true
        or not exists (select from worker w where w.id = p_worker)
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

    select array_agg(id), array_agg(coalesce(cap - running, v_want)) into v_lanes, v_rooms
    from (
        select l.id, l.cap, l.running from lane l
        where l.id = any(array(
                select j.lane from queue_job j
                where j.id = any(p_ids) and j.queue = p_queue and (j.state = 'ready') is true))
            and not l.paused and (l.cap is null or l.running < l.cap)
            and (l.not_before is null or l.not_before <= clock_timestamp())
        order by l.id for update skip locked
    ) as open;
    if v_lanes is null then
        return;
    end if;

    v_ids := array(
        select named.id
        from unnest(v_lanes, v_rooms) as l (id, room)
        cross join lateral (
            select j.id, j.priority, j.seq from queue_job j
            where j.id = any(p_ids) and j.lane = l.id and (j.state = 'ready') is true
                and not exists (select from batch b
                    where b.id = j.batch_id and (b.paused or b.cancelled_at is not null))
            order by j.priority, j.seq limit l.room for update skip locked
        ) as named
        order by named.priority, named.seq limit v_want
    );

    return query
    with taken as (
        update queue_job j set
            state = 'running', lease_no = j.lease_no + 1, attempt = j.attempt + 1,
            worker = p_worker, lease_s = null, lease_until = null, started_at = clock_timestamp(),
            cancel_requested = false, counted = l.cap is not null
        from lane l
        where j.id = any(v_ids) and l.id = j.lane
        returning j.*
    ), served as (
        update lane l set
            vtime = l.vtime + c.n / l.weight,
            running = l.running + case when l.cap is null then 0 else c.n end
        from (select lane, count(*)::integer as n from taken group by lane) as c
        where l.id = c.lane
    ), in_queue as (
        update queue set running = running + (select count(*) from taken)
        where name = p_queue and global_limit is not null
    )
    select lane, id, lease_no, kind, shop, attempt, max_attempts, snoozes, timeout_s,
        coalesce(retry, v_queue.retry)::text, tags, batch_id, created_at, run_at, args::text
    from taken order by priority, seq;
end $$;

call pin_plans(array['claim_named_jobs']);
