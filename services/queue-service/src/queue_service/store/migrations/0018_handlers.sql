-- What is due becomes ready. The clock is read once: an index cannot be searched for what changes
-- while it is, so that each pass looked at every job that waits, and campaigns and automations wait
-- by the million.
create or replace function stage_jobs(p_limit integer) returns bigint[] language plpgsql as $$
declare
    v_lanes bigint[];
    v_now timestamptz := clock_timestamp();
begin
    with due as (
        select id from queue_job
        where state in ('scheduled', 'retrying') and run_at <= v_now
        order by run_at limit p_limit for update skip locked
    ), moved as (
        update queue_job j set state = 'ready', seq = nextval('job_seq') from due
        where j.id = due.id returning j.lane
    )
    select array_agg(lane) into v_lanes from moved;
    perform activate_lanes(v_lanes);
    return coalesce(v_lanes, '{}');
end $$;

call pin_plans(array['stage_jobs']);
