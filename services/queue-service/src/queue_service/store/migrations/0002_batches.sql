-- Batches. Their counters move by batch_delta rows alone (0001), which are folded in once a second:
-- no hot row, no drift.
create table batch (
    id uuid primary key,
    name text not null,
    shop text,
    queue text not null,
    kind text not null,
    defaults jsonb not null,
    on_complete jsonb,
    on_complete_id uuid,
    fingerprint text not null,
    paused boolean not null,
    total bigint not null default 0,
    completed bigint not null default 0,
    failed bigint not null default 0,
    cancelled bigint not null default 0,
    rate double precision,
    folded_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz,
    cancelled_at timestamptz,
    finished_at timestamptz
) with (fillfactor = 50);

create index batch_newest on batch (created_at desc, id desc);
create index batch_unfinished on batch (id) where finished_at is null;

-- What came under each row number, so that a row sent again is the same job, for as long as the
-- batch lives.
create table batch_row (
    batch_id uuid not null,
    source text not null,
    number bigint not null,
    digest bytea not null,
    primary key (batch_id, source, number)
);

create table batch_rejected (
    batch_id uuid not null,
    source text not null,
    number bigint not null,
    line bigint not null,
    detail text not null,
    primary key (batch_id, source, number)
);
