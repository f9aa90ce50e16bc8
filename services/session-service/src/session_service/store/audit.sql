-- name: tell
select record_event($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: of_shop
select id as number, at, kind, session_id, user_id, "grant", reason, version
from token_event where shop = $1 and ($2::bigint is null or id < $2)
order by id desc limit $3

-- name: delete_old
delete from token_event where id in (
    select id from token_event where at < now() - make_interval(days => $1)
    order by at limit $2 for update skip locked)
