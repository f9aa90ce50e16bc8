-- What happened to the tokens of a store, kept for people who ask later. Never a token.
create table token_event (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    shop text collate "C" not null,
    session_id text collate "C" not null,
    user_id bigint,
    kind text not null,
    "grant" text,
    reason text,
    version bigint
);
create index token_event_shop on token_event (shop, id);
create index token_event_at on token_event (at);

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

-- Says in the transaction of a change what it was: a row of `token_event` and, for the kinds that
-- others want to know of, an event. Answers the version, so that a statement can end with
--     select record_event('refreshed', id, shop, user_id, version, p_grant => $7) from changed
-- (what a `with` only selects and nobody reads is never run). Kinds and reasons: core/audit.py.
create function record_event(
    p_kind text, p_session_id text, p_shop text, p_user_id bigint, p_version bigint,
    p_grant text default null, p_reason text default null, p_scope text default null,
    p_traceparent text default null
) returns bigint language plpgsql volatile as $$
declare
    event_id uuid := gen_random_uuid();
    event_type text := 'session.' || p_kind || '.v1';
begin
    insert into token_event (shop, session_id, user_id, kind, "grant", reason, version)
    values (p_shop, p_session_id, p_user_id, p_kind, p_grant, p_reason, p_version);
    if p_kind in ('installed', 'refreshed', 'reauth_required', 'revoked', 'scopes_changed') then
        insert into outbox (event_id, type, envelope) values (event_id, event_type,
            jsonb_build_object(
                'specversion', '1.0', 'id', event_id, 'source', 'session-service',
                'type', event_type,
                'time', to_char(
                    clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'subject', p_session_id, 'datacontenttype', 'application/json',
                'traceparent', p_traceparent, 'shop', p_shop,
                'data', jsonb_build_object(
                    'session_id', p_session_id, 'shop', p_shop, 'user_id', p_user_id,
                    'version', p_version, 'grant', p_grant, 'reason', p_reason,
                    'scope', p_scope)));
    end if;
    return p_version;
end
$$;

-- A row's `key_id` is the one key that opens all of it, and empty while one part is under another:
-- whoever writes a part, and under whichever key, cannot get it wrong.
create function named_key(sealed text) returns text language sql immutable
    return split_part(left(sealed, 200), ':', 3);

create function name_key() returns trigger language plpgsql as $$
declare
    named text := named_key(new.body);
begin
    new.key_id := case
        when coalesce(named_key(new.access_token), named) = named
         and coalesce(named_key(new.refresh_token), named) = named
         and coalesce(named_key(new.previous_refresh_token), named) = named
        then named else '' end;
    return new;
end
$$;
create trigger key_named before insert or update of body, access_token, refresh_token,
    previous_refresh_token, key_id on shopify_session
    for each row execute function name_key();

create index shopify_session_key on shopify_session (key_id);

-- For counting what needs somebody's attention without reading everything.
create index shopify_session_weak on shopify_session (status)
    where not is_online
      and (status <> 'active' or expires_ms is null or refresh_token is null);
