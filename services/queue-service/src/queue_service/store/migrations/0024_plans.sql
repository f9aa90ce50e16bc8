-- As 0005, for what has come since.
do $$
declare
    v_name text;
    v_setting text;
begin
    foreach v_name in array array[
        'enqueue_unique_jobs', 'release_claims', 'retry_jobs', 'run_jobs_now', 'redact_jobs'
    ] loop
        foreach v_setting in array array[
            'jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin'
        ] loop
            execute format('alter function %I set %I = off', v_name, v_setting);
        end loop;
    end loop;
end $$;
