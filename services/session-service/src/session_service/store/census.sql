-- name: take
-- The first four by an index that holds only what is counted here.
select count(*) filter (where status = 'active' and expires_ms is null) as non_expiring,
       count(*) filter (where status = 'active' and expires_ms is not null) as refreshless,
       count(*) filter (where status = 'reauth_required') as reauth_required,
       count(*) filter (where status = 'revoked') as revoked,
       (select count(*) from shopify_session where key_id < $1 or key_id > $1) as old_key,
       (select extract(epoch from finished_at)::float8 from periodic_run where name = $2)
           as cleaned_up_at
from shopify_session
where not is_online
  and (status <> 'active' or expires_ms is null or refresh_token is null)
