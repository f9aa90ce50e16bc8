-- What must not be kept. A job whose args are gone is known by its id and its fingerprint.

-- Args and results of its jobs go when they settle.
alter table queue add column drop_on_finish boolean not null default false;

-- Of live jobs: nothing that says what they were is to reach history. Of settled ones: it is gone.
alter table queue_job add column redacted boolean not null default false;
alter table queue_job_done add column redacted boolean not null default false;
alter table queue_job_failed add column redacted boolean not null default false;

create function redact_history(p_ids uuid[]) returns void language sql as $$
    update queue_job_done
    set args = '{}', result = null, progress = null, errors = '[]', redacted = true
    where id = any(p_ids);
    update queue_job_failed
    set args = '{}', result = null, progress = null, errors = '[]', redacted = true
    where id = any(p_ids);
$$;

-- Jobs end, those that run are told to, and what they were is forgotten; ids and fingerprints stay,
-- so that none runs again. History twice: a job may leave it, or come to it, while this runs.
create function redact_jobs(p_ids uuid[]) returns table (o_id uuid) language plpgsql as $$
begin
    perform redact_history(p_ids);
    perform cancel_jobs(p_ids);
    update queue_job set args = '{}', progress = null, errors = '[]', redacted = true
    where id = any(p_ids);
    perform redact_history(p_ids);
    return query select unnest(p_ids);
end $$;
