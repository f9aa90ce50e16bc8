-- API keys: known by their hash alone. `repeat` is the Idempotency-Key of their creation.
create table api_key (
    id text primary key,
    name text not null,
    digest bytea not null,
    scopes text[] not null,
    shop text,
    expires_at timestamptz,
    created_at timestamptz not null,
    repeat_scope text not null default '',
    repeat text,
    fingerprint text not null
);
create unique index api_key_repeat on api_key (repeat_scope, repeat) where repeat is not null;

-- Jobs promised to their callers that queue-service may not have yet. Empty in good times.
create table accepted (
    id uuid primary key,
    shop text not null,
    queue text not null,
    scope text not null,
    key text,
    fingerprint text not null,
    road text not null check (road in ('bus', 'spool')),
    command jsonb not null,
    accepted_at timestamptz not null default clock_timestamp(),
    due_at timestamptz not null,
    attempts int not null default 0
);
create unique index accepted_key on accepted (scope, key) where key is not null;
create index accepted_due on accepted (due_at);
create index accepted_age on accepted (accepted_at);

-- What queue-service's queues were called when it was last asked.
create table known_queue (
    name text primary key
);

-- Every event once, however often and by whichever road it comes.
create table event_log (
    number bigint generated always as identity primary key,
    event_id uuid not null unique,
    type text not null,
    shop text,
    envelope jsonb not null,
    received_at timestamptz not null default clock_timestamp()
);
create index event_log_age on event_log (received_at);
