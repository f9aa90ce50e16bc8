-- Every job, live or settled, as its readers see it. A job that is being settled is in exactly one
-- of the parts of one snapshot.
create view any_job as
select
    'live' as part, id, queue, kind, shop, state, priority, attempt, max_attempts, worker, run_at,
    created_at, started_at, null::timestamptz as finished_at, batch_id, tags, progress, errors,
    args, null::jsonb as result
from queue_job
union all
select
    'done', id, queue, kind, shop, state, priority, attempt, max_attempts, worker, run_at,
    created_at, started_at, finished_at, batch_id, tags, progress, errors, args, result
from queue_job_done
union all
select
    'failed', id, queue, kind, shop, state, priority, attempt, max_attempts, worker, run_at,
    created_at, started_at, finished_at, batch_id, tags, progress, errors, args, result
from queue_job_failed;
