-- What operators set beside policies: overrides of shops (scope: the shop, name: the policy), plans
-- (name), the plan of a shop (scope: the shop), the two lists (name). Without a document it is one
-- that was removed: its version stays, so that versions of what it changed go on growing.
--
-- Versions are of one sequence and taken under one lock, so they become visible in their order, and
-- a reader that has seen one has seen all before it.
create table configuration (
    kind text not null check (kind in ('override', 'plan', 'shop', 'list')),
    scope text collate "C" not null default '',
    name text collate "C" not null,
    version bigint not null default nextval('policy_version'),
    document jsonb,
    author text not null,
    updated_at timestamptz not null default now(),
    primary key (kind, scope, name)
);
create index configuration_version on configuration (version);
create index configuration_name on configuration (name) where kind = 'override';
create index configuration_plan on configuration ((document ->> 'plan')) where kind = 'shop';
create index policy_by_version on policy (version);
alter table policy add column author text;

-- Who changed what. Of lists only the entries that came or went.
create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    author text not null,
    action text not null,
    subject text not null,
    before jsonb,
    after jsonb
);
create index audit_by_subject on audit (subject, id);
