-- name: find
select id, shop, is_online, user_id, scope, body, access_token, refresh_token,
       previous_refresh_token, expires_ms, refresh_expires_ms, status, gen, version,
       granted_at, granted_by, rejected_at, next_attempt_at, failures, refusals,
       status_reason as reason
from shopify_session where id = $1

-- name: insert
-- The first pair. Nothing when the lease is another's, or when there is a row.
with mine as materialized (
    select 1 from grant_lease where session_id = $1 and owner = $2 for update),
stamp as (select nextval('session_stamp') as n from mine),
done as (
    insert into shopify_session (
        id, shop, is_online, user_id, scope, body, access_token, refresh_token,
        previous_refresh_token, expires_ms, refresh_expires_ms, ends_ms, key_id, granted_by,
        granted_at, gen, version)
    select $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::bigint, $13::bigint, $14::bigint, $15, $16,
           coalesce($17::timestamptz, clock_timestamp()), n, n
    from stamp
    on conflict (id) do nothing
    returning id, shop, user_id, version)
select record_event($18, id, shop, user_id, version, $16, null, $7) from done

-- name: commit
-- Tokens alone, under the lease and over the pair that was found; `body` is that of an online
-- session, whose user comes with the token, and then `over` is the version it was made from.
-- Who takes the lease in this moment waits here and then sees what was done.
with mine as materialized (
    select 1 from grant_lease where session_id = $1 and owner = $2 for update),
stamp as (select nextval('session_stamp') as n from mine),
done as (
    update shopify_session s set
        access_token = $4, refresh_token = $5, previous_refresh_token = $6,
        expires_ms = $7::bigint, refresh_expires_ms = $8::bigint, ends_ms = $9::bigint,
        scope = $10, user_id = $11,
        body = coalesce($12, s.body),
        key_id = case when $12::text is null then s.key_id else $13 end,
        retired = (case when cardinality(s.retired) >= 64 then s.retired[2:] else s.retired end)
            || $14::text,
        granted_by = $15, granted_at = coalesce($16::timestamptz, clock_timestamp()),
        rejected_at = coalesce($17::timestamptz, s.rejected_at),
        status = 'active', status_reason = null, failures = 0, refusals = 0,
        next_attempt_at = null, gen = n, version = n, updated_at = clock_timestamp()
    from stamp
    where s.id = $3 and s.gen = $18 and ($12::text is null or s.version = $19)
    returning s.id, s.shop, s.user_id, s.version)
select record_event($20, id, shop, user_id, version, $15, null, $10),
       case when $21 then
           record_event('scopes_changed', id, shop, user_id, version, $15, null, $10) end
from done

-- name: put_off
-- A renewal that failed: not before `next_attempt_at` again.
with mine as materialized (
    select 1 from grant_lease where session_id = $1 and owner = $2 for update),
done as (
    update shopify_session s set failures = s.failures + 1, refusals = s.refusals + $4,
        next_attempt_at = $5, status_reason = $6
    from mine
    where s.id = $1 and s.gen = $3
    returning s.id, s.shop, s.user_id, s.version)
select record_event('refresh_failed', id, shop, user_id, version, $7, $6) from done

-- name: give_up
-- No token works any more. On the same fence as a grant, so that it never overtakes one.
with mine as materialized (
    select 1 from grant_lease where session_id = $1 and owner = $2 for update),
stamp as (select nextval('session_stamp') as n from mine),
done as (
    update shopify_session s set status = 'reauth_required', status_reason = $4,
        next_attempt_at = null, version = n, updated_at = clock_timestamp()
    from stamp
    where s.id = $1 and s.gen = $3
    returning s.id, s.shop, s.user_id, s.version)
select record_event('reauth_required', id, shop, user_id, version, $5, $4) from done

-- name: warm
-- Pairs whose refresh token ends within the given time and whose turn of the day has come, and
-- those that cannot wait for it.
select id, shop, gen from shopify_session
where status = 'active' and not is_online and refresh_token is not null
  and refresh_expires_ms < $1::bigint + $2::bigint and refresh_expires_ms > $1::bigint
  and (next_attempt_at is null or next_attempt_at <= to_timestamp($1::bigint / 1000.0))
  and (refresh_expires_ms < $1::bigint + $3::bigint
       or mod(('x' || substr(md5(shop), 1, 8))::bit(32)::bigint, 24) = $4)
order by refresh_expires_ms
limit $5

-- name: endless
-- Tokens without an end, those that failed before last.
select id, shop from shopify_session
where status = 'active' and not is_online and access_token is not null
  and refresh_token is null and expires_ms is null
  and (next_attempt_at is null or next_attempt_at <= $1)
order by id
limit $2

-- name: count_endless
select count(*) from shopify_session
where status = 'active' and not is_online and access_token is not null
  and refresh_token is null and expires_ms is null

-- name: postpone
update shopify_session set next_attempt_at = $2 where id = $1 and expires_ms is null
