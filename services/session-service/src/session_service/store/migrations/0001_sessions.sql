-- `version` moves with every change of a row, `gen` only when its tokens change. Both are drawn
-- from one sequence and never come again, also after a session was deleted and came back.
create sequence session_stamp;

-- What is sealed: `body` (the session as it was given, less what has a column of its own) and the
-- tokens. Times in `_ms` are epoch milliseconds, as the session itself says them.
create table shopify_session (
    id text collate "C" primary key check (length(id) between 1 and 512),
    shop text collate "C" not null,
    is_online boolean not null,
    user_id bigint,
    scope text,
    body text not null,
    access_token text,
    refresh_token text,
    previous_refresh_token text,
    expires_ms bigint,
    refresh_expires_ms bigint,
    -- When the last of its tokens ends; null while none is known to end.
    ends_ms bigint,
    -- Keyed fingerprints of the pairs that grants of our own have retired, newest last.
    retired text[] not null default '{}',
    key_id text not null,
    status text not null default 'active'
        check (status in ('active', 'reauth_required', 'revoked')),
    status_reason text,
    failures int not null default 0,
    next_attempt_at timestamptz,
    gen bigint not null,
    version bigint not null,
    granted_at timestamptz not null default clock_timestamp(),
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);

create index shopify_session_shop on shopify_session (shop);
create index shopify_session_ends on shopify_session (ends_ms) where ends_ms is not null;

-- Who may ask Shopify for tokens of a session now. Exists before the session does.
create table grant_lease (
    session_id text collate "C" primary key,
    owner uuid not null,
    until timestamptz not null
);

-- Periodic work of all replicas together: who starts it claims the period here.
create table periodic_run (
    name text primary key,
    started_at timestamptz not null,
    finished_at timestamptz,
    handled bigint
);
