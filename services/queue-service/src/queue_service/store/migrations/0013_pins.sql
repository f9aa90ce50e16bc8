-- `create or replace` forgets the settings of a function: whoever makes one on the hot path calls
-- this last. Statistics of tables that fill and empty all the time are always stale, so nothing is
-- left to the planner. Functions that only these call need no settings of their own.
create procedure pin_plans(p_functions text[]) language plpgsql as $$
declare
    v_function regprocedure;
    v_setting text;
begin
    for v_function in
        select p.oid from pg_proc p
        where p.proname = any(p_functions) and p.pronamespace = current_schema()::regnamespace
    loop
        foreach v_setting in array array[
            'jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin'
        ] loop
            execute format('alter function %s set %I = off', v_function, v_setting);
        end loop;
        execute format('alter function %s set plan_cache_mode = force_generic_plan', v_function);
    end loop;
end $$;
