-- What shops asked for, a row per shop, policy and minute. `cost` is the sum of what was asked, in
-- the policy's unit. Replicas add to the same rows, each flush once: `usage_flush` knows the last
-- flush of each replica.
create table usage_minute (
    minute timestamptz not null,
    shop text collate "C" not null,
    policy text collate "C" not null,
    allowed bigint not null default 0,
    denied bigint not null default 0,
    shadow_denied bigint not null default 0,
    cost bigint not null default 0,
    primary key (minute, shop, policy)
) with (fillfactor = 80);
create index usage_by_shop on usage_minute (shop, minute);

create table usage_flush (
    replica uuid primary key,
    number bigint not null,
    at timestamptz not null default clock_timestamp()
);

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

-- An event of the transaction that calls this.
create function tell(kind text, about text, said jsonb) returns void language plpgsql volatile as $$
declare
    event_id uuid := gen_random_uuid();
begin
    insert into outbox (event_id, type, envelope) values (event_id, kind, jsonb_build_object(
        'specversion', '1.0', 'id', event_id, 'source', 'ratelimit-service', 'type', kind,
        'time', to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'subject', about, 'datacontenttype', 'application/json', 'traceparent', null, 'shop', null,
        'data', said));
end
$$;

-- Whoever changes the decider or a policy cannot forget to tell of it, nor tell of what is rolled
-- back; and however many replicas follow a change, it is one row that changes once.
create function tell_of_switch() returns trigger language plpgsql as $$
begin
    perform tell('ratelimit.backend.switched.v1', null, jsonb_build_object(
        'old', old.backend, 'new', new.backend, 'epoch', new.seq, 'generation', new.gen));
    return null;
end
$$;
create trigger switched after update on epoch
    for each row when (old.backend is distinct from new.backend) execute function tell_of_switch();

create function tell_of_policy() returns trigger language plpgsql as $$
begin
    perform tell('ratelimit.policy.changed.v1', new.id, jsonb_build_object(
        'policy', new.id, 'version', new.version, 'deleted', new.spec is null));
    return null;
end
$$;
create trigger policy_made after insert on policy
    for each row execute function tell_of_policy();
create trigger policy_changed after update on policy
    for each row when (old.spec is distinct from new.spec) execute function tell_of_policy();
