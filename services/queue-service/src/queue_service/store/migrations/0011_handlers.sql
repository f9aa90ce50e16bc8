-- Kinds that are run by a POST to somebody's URL. `secret` is sealed for (handler, kind).
create table handler (
    kind text primary key,
    url text not null,
    secret text not null,
    timeout_s double precision not null,
    max_in_flight integer not null,
    disabled_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);
