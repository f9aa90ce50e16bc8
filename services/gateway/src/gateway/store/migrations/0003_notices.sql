-- What an owner must still hear of a shop: a call of its internal API, until it has taken it. Empty in
-- good times.
create table notice (
    id uuid primary key,
    owner text not null,
    shop text not null,
    verb text not null,
    said jsonb not null,
    made_at timestamptz not null default clock_timestamp(),
    due_at timestamptz not null default clock_timestamp()
);
create index notice_due on notice (due_at);
