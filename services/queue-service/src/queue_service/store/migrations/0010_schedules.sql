-- Jobs that come by the clock. A fire's job has an id made of the name and the time, so a fire
-- happens once, whoever makes it. `shop` is the job's; `next_fire_at` is null while nothing is to
-- come.
create table schedule (
    name text primary key,
    shop text,
    cron text not null,
    timezone text not null,
    job jsonb not null,
    missed text not null check (missed in ('skip', 'last', 'all')),
    overlap text not null check (overlap in ('allow', 'skip')),
    enabled boolean not null,
    next_fire_at timestamptz,
    last_fire_at timestamptz,
    last_job_id uuid,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);
create index schedule_due on schedule (next_fire_at) where enabled;
