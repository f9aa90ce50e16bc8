-- name: uninstalled
-- What was granted later belongs to the next installation.
with gone as (
    delete from shopify_session where shop = $1 and granted_at <= $2
    returning id, shop, user_id, nextval('session_stamp') as version)
select id, record_event('revoked', id, shop, user_id, version, null, 'uninstalled', null, $3)
    as version
from gone

-- name: scopes_updated
-- A pair that was granted later was granted with the scopes of its own time.
with old as materialized (
    select id, scope from shopify_session
    where shop = $1 and not is_online and granted_at <= $3
      and (scopes_at is null or scopes_at < $3)
    for update),
told as (
    update shopify_session s set
        scope = $2, scopes_at = $3, updated_at = clock_timestamp(),
        version = case when old.scope is distinct from $2
            then nextval('session_stamp') else s.version end
    from old where s.id = old.id
    returning s.id, s.shop, s.user_id, s.version, old.scope is distinct from $2 as is_other)
select id,
    record_event('scopes_changed', id, shop, user_id, version, null, null, $2, $4) as version
from told where is_other

-- name: redacted
-- The event has the id of what asked for it, so that it is the same one however often that comes.
with gone as (
    delete from shopify_session where shop = $1 and granted_at <= $2
    returning id, nextval('session_stamp') as version),
history as (delete from token_event where shop = $1 and at <= $2),
told as (
    insert into outbox (event_id, type, envelope) values ($3, $4, $5)
    on conflict (event_id) do nothing)
select id, version from gone
