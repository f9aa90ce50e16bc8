-- Queues, lanes, live jobs, history. A job lives in queue_job until it is settled; the settling
-- statement moves it to history. There are no foreign keys on the hot path.

create table queue (
    name text collate "C" primary key,
    served_by text not null check (served_by in ('worker', 'pull')),
    concurrency integer not null,
    global_limit integer,
    per_shop_limit integer,
    max_attempts integer not null,
    timeout_s double precision not null,
    max_age_s double precision,
    retry jsonb not null,
    weights jsonb not null default '{}',
    paused boolean not null default false,
    -- Counted only under a global_limit, in this row, which a claim then locks first.
    running integer not null default 0,
    created_at timestamptz not null default clock_timestamp()
);

-- A lane is (queue, shop), "" for jobs without a shop; lanes are never deleted. `vtime` is its
-- virtual time: the claimer serves the least. `active`: may have ready jobs. `running` is counted
-- only while there is a cap.
create table lane (
    id bigint generated always as identity primary key,
    queue text collate "C" not null,
    shop text collate "C" not null,
    weight double precision not null default 1,
    vtime double precision not null default 0,
    cap integer,
    running integer not null default 0,
    not_before timestamptz,
    paused boolean not null default false,
    active boolean not null default false,
    unique (queue, shop)
) with (fillfactor = 50);

create index lane_active on lane (queue) where active;

-- One row per worker process, beaten by it. Running jobs without such a row are rescued.
create table worker (
    id uuid primary key,
    name text not null,
    started_at timestamptz not null default clock_timestamp(),
    beat_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create sequence job_seq;

-- `seq` is drawn when a job becomes ready: its place in its lane within its priority. `lease_no`
-- only grows; every write of a worker is conditional on it. `attempt` is what users see.
create table queue_job (
    id uuid primary key,
    lane bigint not null,
    queue text not null,
    kind text not null,
    shop text,
    state text not null check (state in ('held', 'scheduled', 'ready', 'running', 'retrying')),
    priority smallint not null,
    seq bigint not null default nextval('job_seq'),
    attempt integer not null default 0,
    max_attempts integer not null,
    snoozes integer not null default 0,
    kills smallint not null default 0,
    lease_no bigint not null default 0,
    worker uuid,
    lease_until timestamptz,
    counted boolean not null default false,
    cancel_requested boolean not null default false,
    notify boolean not null default false,
    timeout_s double precision,
    run_at timestamptz not null,
    created_at timestamptz not null,
    started_at timestamptz,
    batch_id uuid,
    tags text[] not null default '{}',
    retry jsonb,
    fingerprint text not null,
    progress jsonb,
    errors jsonb not null default '[]',
    args jsonb not null
) with (
    fillfactor = 70, toast_tuple_target = 512, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0
);

create index queue_job_ready on queue_job (lane, priority, seq) where state = 'ready';
create index queue_job_due on queue_job (run_at) where state in ('scheduled', 'retrying');
create index queue_job_running on queue_job (worker) where state = 'running';
create index queue_job_newest on queue_job (created_at desc, id desc);
create index queue_job_batch on queue_job (batch_id, state) where batch_id is not null;

-- History: what ended well or was not wanted, and what failed, each by the day it ended, since they
-- are kept for different times. The default partitions catch what a missing day would lose.
create table queue_job_done (
    id uuid not null,
    queue text not null,
    kind text not null,
    shop text,
    state text not null,
    priority smallint not null,
    attempt integer not null,
    max_attempts integer not null,
    lease_no bigint not null,
    worker uuid,
    run_at timestamptz not null,
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz not null,
    batch_id uuid,
    tags text[] not null,
    fingerprint text not null,
    progress jsonb,
    errors jsonb not null,
    args jsonb not null,
    result jsonb
) partition by range (finished_at);

create index on queue_job_done (id);
create index on queue_job_done (created_at desc, id desc);
create index on queue_job_done (batch_id) where batch_id is not null;

create table queue_job_failed (like queue_job_done) partition by range (finished_at);

create index on queue_job_failed (id);
create index on queue_job_failed (created_at desc, id desc);
create index on queue_job_failed (batch_id) where batch_id is not null;

create table queue_job_done_overflow partition of queue_job_done default;
create table queue_job_failed_overflow partition of queue_job_failed default;

create view queue_job_history as
    select * from queue_job_done union all select * from queue_job_failed;

-- Which job an Idempotency-Key stands for. Kept as long as the longest history.
create table idempotency_key (
    scope text not null,
    key text not null,
    job_id uuid not null,
    fingerprint text not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (scope, key)
);

create index idempotency_key_age on idempotency_key (created_at);

-- Marks of Context.once(): an outside effect that may have happened.
create table job_mark (
    job_id uuid not null,
    name text not null,
    lease_no bigint not null,
    at timestamptz not null default clock_timestamp(),
    primary key (job_id, name)
);

create table batch_delta (
    id bigint generated always as identity primary key,
    batch_id uuid not null,
    completed integer not null,
    failed integer not null,
    cancelled integer not null
);

create index batch_delta_batch on batch_delta (batch_id);

create table outbox (
    id bigint generated always as identity primary key,
    event_id uuid not null unique,
    type text not null,
    envelope jsonb not null,
    created_at timestamptz not null default clock_timestamp()
);

create table leader (
    name text primary key,
    holder uuid not null,
    until timestamptz not null
);
