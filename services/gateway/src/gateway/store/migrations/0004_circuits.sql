-- What operators have said of circuits: for every gateway, until it runs out.
create table circuit_override (
    upstream text primary key,
    mode text not null check (mode in ('force_open', 'force_closed')),
    reason text not null,
    said_by text not null,
    said_at timestamptz not null default clock_timestamp(),
    until timestamptz not null
);

-- How the circuits of every gateway have changed; with `mode`, an operator's word to all of them.
create table circuit_change (
    id uuid primary key,
    at timestamptz not null,
    upstream text not null,
    gateway text not null,
    old text not null,
    state text not null,
    why text not null,
    mode text,
    until timestamptz,
    reason text,
    said_by text
);
create index circuit_change_at on circuit_change (at, id);
