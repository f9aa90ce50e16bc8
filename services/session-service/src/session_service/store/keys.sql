-- name: under_others
select id, version, body, access_token, refresh_token, previous_refresh_token
from shopify_session where key_id <> $1 and id > $2 order by id limit $3

-- name: again
select id, version, body, access_token, refresh_token, previous_refresh_token
from shopify_session where id = any($1::text[]) and key_id <> $2 order by id

-- name: reseal
-- Only rows that are as they were read. It never waits for a row, so it cannot wait in a circle.
with held as (
    select s.id as held_id, n.*
    from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])
        as n (id, version, body, access_token, refresh_token, previous_refresh_token)
    join shopify_session s on s.id = n.id and s.version = n.version
    for update of s skip locked),
resealed as (
    update shopify_session s set
        body = held.body, access_token = held.access_token, refresh_token = held.refresh_token,
        previous_refresh_token = held.previous_refresh_token
    from held where s.id = held.held_id
    returning 1)
select count(*) from resealed

-- name: count_under_others
select count(*) from shopify_session where key_id <> $1 and id > $2
