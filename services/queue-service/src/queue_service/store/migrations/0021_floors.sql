-- Under a snapshot that stays open, dead entries of the index of ready jobs cannot be removed: whoever
-- looks through a lane from its beginning walks all that has ever been in it since. So a claim that
-- finds a lane short looks again from where its cursor was a while ago, and so does the probe after
-- it; only the reconciler, and claims in their turn, look from the beginning.

-- Take up to p_want jobs for a worker that is alive, from up to p_lanes of the lanes served least.
-- With p_lease_s they are leased by time instead, from a queue that is pulled; p_shop: of that shop
-- alone. p_near: lanes to choose from, when the claimer has looked for them lately. p_head_lanes,
-- p_heads: see peek_lanes; p_floors: as p_heads, where to look again in a lane that seems short, its
-- beginning if they are not given: what was committed behind a floor after it was passed is missed.
-- p_debt_lanes, p_debts: jobs taken of lanes while others held them, still
-- to be paid for.
-- Jobs come in turns between lanes, in each by priority and place. Rows without o_id tell of lanes,
-- by o_kind: `dry`, was found empty or had jobs moved out of it: it must be woken
-- (wake_lanes) after this has been committed; `paid`, no longer owed for; `owed`, o_attempt jobs
-- of it are to be paid for.
create function take_ready(
    p_queue text, p_worker uuid, p_want integer, p_lanes integer,
    p_lease_s double precision default null, p_shop text default null,
    p_near bigint[] default null, p_head_lanes bigint[] default '{}', p_heads bigint[] default '{}',
    p_floors bigint[] default '{}',
    p_debt_lanes bigint[] default '{}', p_debts integer[] default '{}'
) returns table (
    o_lane bigint, o_id uuid, o_lease_no bigint, o_kind text, o_shop text, o_attempt integer,
    o_max_attempts integer, o_snoozes integer, o_timeout_s double precision, o_retry text,
    o_tags text[], o_batch_id uuid, o_created_at timestamptz, o_run_at timestamptz, o_args text,
    o_priority smallint, o_seq bigint
) language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    v_queue record;
    v_retry text;
    v_left integer := p_want;
    v_near bigint[] := p_near;
    v_floor double precision;
    v_lanes bigint[];
    v_weights double precision[];
    v_rooms integer[];
    v_capped boolean[];
    v_shares integer[];
    v_heads bigint[] := p_heads;
    v_low bigint[];
    v_taken integer[];
    v_moved integer[];
    v_dry boolean[];
    v_counts integer[];
    v_held_counts integer[];
    v_tids tid[];
    v_places integer[];
    v_held tid[];
    v_short bigint[];
    v_own integer;
    v_asked bigint;
    v_has_borrowed boolean := false;
    v_is_plain boolean := false;
begin
    select q.*,
        exists (select from worker w where w.id = p_worker) as has_worker,
        exists (select from lane l where l.queue = p_queue and l.not_before <= v_now) as has_parked
    into v_queue from queue q where q.name = p_queue;
    if v_queue.paused or p_lease_s is null and not v_queue.has_worker
        or p_lease_s is not null and (v_queue.served_by = 'pull') is not true
    then
        return;
    end if;
    if v_queue.global_limit is not null then
        select least(v_left, global_limit - running) into v_left
        from queue where name = p_queue for update;
    end if;
    if (v_left > 0) is not true then
        return;
    end if;
    v_retry := v_queue.retry::text;

    if v_queue.has_parked then
        update lane set not_before = null where id in (
            select id from lane where queue = p_queue and not_before <= v_now
            limit 1000 for no key update skip locked
        );
    end if;
    if p_shop is not null then
        select array_agg(id) into v_near from lane
        where queue = p_queue and shop = p_shop and is_open;
    elsif v_near is null then
        -- No lane may be further behind than what others can have been served since.
        select array_agg(id), max(vtime - 1000 / weight) into v_near, v_floor from (
            select id, vtime, weight from lane where queue = p_queue and is_open
            order by vtime, id limit 2 * p_lanes + 8
        ) as near;
    end if;
    if v_near is null then
        return;
    end if;

    -- Shares raise the virtual times of those served least to one level.
    select array_agg(id order by place), array_agg(weight order by place),
        array_agg(room order by place), array_agg(capped order by place),
        array_agg(least(least(upto, v_left) - least(upto_before, v_left), room)::integer
            order by place),
        greatest(v_floor, max(vtime - 1000 / weight))
    into v_lanes, v_weights, v_rooms, v_capped, v_shares, v_floor
    from (
        select *, round(sum(share) over (order by place)) as upto,
            round(coalesce(sum(share) over (
                order by place rows between unbounded preceding and 1 preceding), 0)) as upto_before
        from (
            select *, greatest(weight * (
                min(level) filter (where level > vtime) over () - vtime), 0) as share
            from (
                select *, (v_left + sum(weight * vtime) over (order by place))
                    / sum(weight) over (order by place) as level
                from (
                    select *, row_number() over () as place from (
                        select id, vtime, weight, cap is not null as capped,
                            coalesce(cap - running, v_left) as room
                        from lane where id = any(v_near) and is_open
                        order by vtime, id limit least(p_lanes, v_left)
                        for no key update skip locked
                    ) as locked
                ) as placed
            ) as levelled
        ) as shared
    ) as chosen;
    v_own := coalesce(cardinality(v_lanes), 0);
    v_asked := v_own;
    v_taken := array_fill(0, array[v_own]);
    v_moved := v_taken;
    v_dry := array_fill(false, array[v_own]);

    for v_pass in 1..6 loop
        if v_asked = 0 and not v_has_borrowed and v_own < least(p_lanes, v_left) then
            -- Others hold what there is besides. Its jobs are free all the same, paid for later.
            select v_lanes || array_agg(id),
                array_fill(0, array[v_own]) || array_agg(v_left / n + (at <= v_left % n)::integer),
                v_weights || array_agg(weight), v_rooms || array_agg(v_left),
                v_capped || array_agg(false), v_taken || array_agg(0), v_moved || array_agg(0),
                v_dry || array_agg(false), count(*)
            into v_lanes, v_shares, v_weights, v_rooms, v_capped, v_taken, v_moved, v_dry, v_asked
            from (
                select *, (row_number() over ())::integer as at, (count(*) over ())::integer as n
                from (
                    select id, weight from lane
                    where id = any(v_near) and id <> all(coalesce(v_lanes, '{}')) and is_open
                        and cap is null
                    order by vtime, id limit least(p_lanes, v_left) for key share skip locked
                ) as lent
            ) as lent;
            v_has_borrowed := true;
        end if;
        exit when v_asked = 0;

        with seen as materialized (
            select * from peek_lanes(v_lanes, v_shares, p_head_lanes, v_heads)
        )
        select s.counts, s.held_counts, t.tids, t.places, array(select unnest(o_held) from seen)
        into v_counts, v_held_counts, v_tids, v_places, v_held
        from (
            select array_agg(coalesce(cardinality(o_ready), 0) order by seen.o_lane) as counts,
                array_agg(coalesce(cardinality(o_held), 0) order by seen.o_lane) as held_counts
            from seen
        ) as s, (
            select array_agg(r.tid order by r.rank, seen.o_lane) as tids,
                array_agg(seen.o_lane order by r.rank, seen.o_lane) as places
            from seen, unnest(o_ready) with ordinality as r (tid, rank)
        ) as t;
        -- A claim never skips: what a paused or cancelled batch left in a lane is moved out of it.
        if cardinality(v_held) > 0 then
            update queue_job set state = 'held' where ctid = any(v_held);
        end if;
        return query
        update queue_job j set
            state = 'running', lease_no = j.lease_no + 1, attempt = j.attempt + 1,
            worker = p_worker, lease_s = p_lease_s,
            lease_until = v_now + make_interval(secs => p_lease_s), started_at = v_now,
            cancel_requested = false, counted = v_capped[g.place]
        from unnest(v_tids, v_places) as g (tid, place)
        where j.ctid = g.tid
        returning j.lane, j.id, j.lease_no, j.kind, j.shop, j.attempt, j.max_attempts, j.snoozes,
            j.timeout_s, coalesce(j.retry::text, v_retry), j.tags, j.batch_id, j.created_at,
            j.run_at, j.args::text, j.priority, j.seq;
        v_left := v_left - coalesce(cardinality(v_tids), 0);
        if v_left = 0 and v_pass = 1 then
            v_taken := v_counts;
            v_is_plain := not v_has_borrowed;
            exit;
        end if;

        -- What to ask of whom now: again, from its floor, of a lane that seemed short; else what
        -- is missing, of those that may have more.
        select array_agg(taken order by n), array_agg(moved order by n), array_agg(dry order by n),
            array_agg(again order by n), sum(again), array_agg(id) filter (where hides)
        into v_taken, v_moved, v_dry, v_shares, v_asked, v_short
        from (
            select *, case when hides then missing else coalesce(least(
                room - taken,
                (least(round(v_left * upto / whole), v_left)
                    - least(round(v_left * upto_before / whole), v_left))::integer), 0)
            end as again
            from (
                select *, sum(part) over (order by n) as upto,
                    coalesce(sum(part) over (
                        order by n rows between unbounded preceding and 1 preceding), 0
                    ) as upto_before,
                    nullif(sum(part) over (), 0) as whole
                from (
                    select *, case when dry or taken >= room or bool_or(hides) over () then 0
                        else weight end as part
                    from (
                        select g.n, g.id, g.weight, g.room, g.taken + g.count as taken,
                            g.moved + g.held as moved, g.share - g.count - g.held as missing,
                            g.dry or g.share > g.count + g.held and not h.may_hide as dry,
                            g.share > g.count + g.held and h.may_hide as hides
                        from unnest(
                            v_lanes, v_weights, v_rooms, v_taken, v_moved, v_dry, v_shares,
                            v_counts, v_held_counts
                        ) with ordinality as g (
                            id, weight, room, taken, moved, dry, share, count, held, n
                        )
                        cross join lateral (
                            select g.id = any(p_head_lanes) and (g.id = any(v_low)) is not true
                                as may_hide
                        ) as h
                    ) as seen
                ) as parted
            ) as summed
        ) as told;
        if v_short is not null then
            v_low := v_low || v_short;
            v_heads := array(
                select case when p_head_lanes[(h.n + 9) / 10] = any(v_short)
                    then coalesce(p_floors[h.n], 0) else h.place end
                from unnest(v_heads) with ordinality as h (place, n) order by h.n
            );
        end if;
        exit when v_left = 0;
    end loop;
    if v_lanes is null then
        return;
    end if;

    update lane l set
        vtime = greatest(l.vtime, v_floor) + (
            g.taken + coalesce(p_debts[array_position(p_debt_lanes, l.id)], 0)) / l.weight,
        running = case when l.cap is null then l.running else l.running + g.taken end,
        -- One that gave something may be given something: it sleeps when it is found empty.
        active = not g.dry or g.taken > 0
    from unnest(v_lanes[:v_own], v_taken[:v_own], v_dry[:v_own]) as g (id, taken, dry)
    where l.id = g.id;
    -- A limit that was set since has counted none of these: it waited for the lanes, or was there
    -- before they were taken.
    update queue set running = running + (select sum(taken) from unnest(v_taken) as taken)
    where name = p_queue and global_limit is not null;
    if v_is_plain and cardinality(p_debt_lanes) = 0 then
        return;
    end if;
    return query
    select g.id, null::uuid, null::bigint, t.told, null::text, g.taken, null::integer,
        null::integer, null::double precision, null::text, null::text[], null::uuid,
        null::timestamptz, null::timestamptz, null::text, null::smallint, null::bigint
    from unnest(v_lanes, v_taken, v_moved, v_dry)
        with ordinality as g (id, taken, moved, dry, n)
    cross join unnest(array['dry', 'paid', 'owed']) as t (told)
    where case t.told
        when 'dry' then n <= v_own and (g.dry and g.taken = 0 or g.moved > 0)
        when 'paid' then n <= v_own and g.id = any(p_debt_lanes)
        else n > v_own and g.taken > 0 end;
end $$;

-- Workers of the releases before this one call it so.
create or replace function take_jobs(
    p_queue text, p_worker uuid, p_want integer, p_lanes integer,
    p_lease_s double precision default null, p_shop text default null,
    p_near bigint[] default null, p_head_lanes bigint[] default '{}', p_heads bigint[] default '{}',
    p_debt_lanes bigint[] default '{}', p_debts integer[] default '{}'
) returns table (
    o_lane bigint, o_id uuid, o_lease_no bigint, o_kind text, o_shop text, o_attempt integer,
    o_max_attempts integer, o_snoozes integer, o_timeout_s double precision, o_retry text,
    o_tags text[], o_batch_id uuid, o_created_at timestamptz, o_run_at timestamptz, o_args text,
    o_priority smallint, o_seq bigint
) language sql as $$
    select * from take_ready(
        p_queue, p_worker, p_want, p_lanes, p_lease_s, p_shop, p_near, p_head_lanes, p_heads, '{}',
        p_debt_lanes, p_debts)
$$;

-- Those lanes that sleep over ready jobs take part again. True if there were any. p_floors: ten
-- places for each of p_floor_lanes, as in take_ready.
create function wake_behind(p_lanes bigint[], p_floor_lanes bigint[], p_floors bigint[])
returns boolean language plpgsql as $$
declare
    v_ready bigint[];
begin
    -- First and alone: the planner would look for ready jobs in the whole backlog.
    if not exists (select from lane where id = any(p_lanes) and not active) then
        return false;
    end if;
    select array_agg(l.id) into v_ready
    from lane l
    cross join lateral (select array_position(p_floor_lanes, l.id) as at) as f
    where l.id = any(p_lanes) and not l.active and case
        when f.at is null then exists (
            select from queue_job j where j.lane = l.id and j.state = 'ready')
        else exists (
            select from generate_series(0, 9) as p cross join lateral (
                select from queue_job j
                where j.lane = l.id and j.state = 'ready' and j.priority = p::smallint
                    and j.seq > coalesce(p_floors[f.at * 10 - 9 + p], 0)
                limit 1) as found)
        end;
    if v_ready is null then
        return false;
    end if;
    perform activate_lanes(v_ready);
    return true;
end $$;

-- For whoever has just committed ready jobs: they are the last of their lanes, so it looks from there.
create or replace function wake_lanes(p_lanes bigint[]) returns boolean language plpgsql as $$
declare
    v_ready bigint[];
begin
    if not exists (select from lane where id = any(p_lanes) and not active) then
        return false;
    end if;
    select array_agg(l.id) into v_ready
    from lane l cross join lateral (
        select from queue_job j where j.lane = l.id and j.state = 'ready'
        order by j.priority desc, j.seq desc limit 1
    ) as last
    where l.id = any(p_lanes) and not l.active;
    if v_ready is null then
        return false;
    end if;
    perform activate_lanes(v_ready);
    return true;
end $$;

call pin_plans(array['take_ready', 'take_jobs', 'wake_behind', 'wake_lanes']);
