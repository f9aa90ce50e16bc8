-- name: find
select id, shop, is_online, user_id, scope, body, access_token, refresh_token,
       previous_refresh_token, expires_ms, refresh_expires_ms, status, gen, version
from shopify_session where id = any($1::text[])

-- name: of_shop
select id, shop, is_online, user_id, scope, body, access_token, refresh_token,
       previous_refresh_token, expires_ms, refresh_expires_ms, status, gen, version
from shopify_session where shop = $1 and ($2::text is null or id > $2)
order by id limit $3

-- name: newest_of
-- For ids that are not spelled by the rule: the session written last.
select id, shop, is_online, user_id, scope, body, access_token, refresh_token,
       previous_refresh_token, expires_ms, refresh_expires_ms, status, gen, version
from shopify_session
where shop = $1 and is_online = ($2::bigint is not null)
  and ($2::bigint is null or user_id = $2)
order by version desc limit 1

-- name: retired
select retired from shopify_session where id = $1

-- name: insert
-- Nothing when somebody else was first: the caller looks again.
with stamp as (select nextval('session_stamp') as n),
done as (
    insert into shopify_session (
        id, shop, is_online, user_id, scope, body, access_token, refresh_token,
        previous_refresh_token, expires_ms, refresh_expires_ms, status, ends_ms, key_id, gen,
        version)
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::bigint, $11::bigint, $12, $13::bigint, $14,
           n, n
    from stamp
    on conflict (id) do nothing
    returning id, shop, user_id, version)
select record_event('stored', id, shop, user_id, version) from done

-- name: update
-- Only the row that the decision was made on. Tokens that change make a new `gen` and end what was
-- known of the old ones.
with stamp as (select nextval('session_stamp') as n),
done as (update shopify_session s set
    shop = $2, is_online = $3, user_id = $4, scope = $5, body = $6, access_token = $7,
    refresh_token = $8, previous_refresh_token = $9, expires_ms = $10, refresh_expires_ms = $11,
    status = $12, ends_ms = $13, key_id = $14,
    gen = case when $16 then n else gen end,
    granted_at = case when $16 then clock_timestamp() else granted_at end,
    status_reason = case when $16 then null else status_reason end,
    failures = case when $16 then 0 else failures end,
    refusals = case when $16 then 0 else refusals end,
    granted_by = case when $16 then null else granted_by end,
    next_attempt_at = case when $16 then null else next_attempt_at end,
    version = n, updated_at = clock_timestamp()
from stamp
where s.id = $1 and s.version = $15
returning s.id, s.shop, s.user_id, s.version)
select case when $16 then record_event('stored', id, shop, user_id, version) else version end
from done

-- name: delete
-- The version drawn is what a copy elsewhere must be older than to be forgotten.
with gone as (
    delete from shopify_session
    where id = any($1::text[]) and ($2::text is null or shop = $2)
    returning id, shop, user_id, nextval('session_stamp') as version)
select id, record_event('deleted', id, shop, user_id, version) as version from gone

-- name: delete_shop
-- A grant newer than the uninstall that is told of belongs to the next installation.
with gone as (
    delete from shopify_session
    where shop = $1 and ($2::timestamptz is null or granted_at <= $2)
    returning id, shop, user_id, nextval('session_stamp') as version)
select id, record_event('deleted', id, shop, user_id, version, null, 'purged') as version from gone

-- name: delete_ended
-- Bounded; rows that are being written now are passed over until the next time.
delete from shopify_session where id in (
    select id from shopify_session
    where ends_ms < (extract(epoch from clock_timestamp()) - $1) * 1000
    order by ends_ms limit $2 for update skip locked)
returning id, nextval('session_stamp') as version
