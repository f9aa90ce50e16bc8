-- Queues whose jobs' args and results are sealed. Sealed args are a text, which no args of a caller's
-- are, and a job whose args are sealed has a sealed result.

alter table queue add column sealed boolean not null default false;

-- An enqueuer that has not heard that a queue is sealed is told so: nothing of its call is stored.
create function require_sealed(p_lanes bigint[], p_args jsonb[]) returns void language plpgsql as $$
begin
    if exists (select from queue where sealed) and exists (
        select from unnest(p_lanes, p_args) as g (lane, args)
        join lane l on l.id = g.lane join queue q on q.name = l.queue
        where q.sealed and jsonb_typeof(g.args) <> 'string'
    ) then
        raise exception 'args are to be sealed' using errcode = 'MS001';
    end if;
end $$;
