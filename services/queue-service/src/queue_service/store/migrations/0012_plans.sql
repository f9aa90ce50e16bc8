-- Statistics of tables that fill and empty all the time are always stale: plans are pinned, for
-- whatever connection calls.
do $$
declare
    v_name text;
    v_setting text;
begin
    foreach v_name in array array[
        'enqueue_jobs', 'claim_jobs', 'settle_jobs', 'stage_jobs', 'cancel_jobs', 'wake_lanes',
        'activate_lanes', 'give_back', 'enqueue_unique_jobs', 'release_claims', 'retry_jobs',
        'run_jobs_now', 'redact_jobs', 'lease_jobs', 'settle_leases'
    ] loop
        foreach v_setting in array array[
            'jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin'
        ] loop
            execute format('alter function %I set %I = off', v_name, v_setting);
        end loop;
        -- With the rest pinned the plans are always the same: planning them anew costs more than
        -- running them.
        execute format('alter function %I set plan_cache_mode = force_generic_plan', v_name);
    end loop;
end $$;
