-- name: all
select kind, url, secret as sealed, timeout_s, max_in_flight, disabled_at, created_at, updated_at
from handler order by kind limit 10000

-- name: get
select kind, url, secret as sealed, timeout_s, max_in_flight, disabled_at, created_at, updated_at
from handler where kind = $1

-- name: create
insert into handler (kind, url, secret, timeout_s, max_in_flight)
values ($1, $2, $3, $4, $5)
on conflict (kind) do nothing
returning pg_notify('handler_changed', '') is not null

-- name: change
-- Also lets it be called again. Without a secret the known one stays.
update handler set
    url = $2, secret = coalesce($3, secret), timeout_s = $4, max_in_flight = $5,
    disabled_at = null, updated_at = clock_timestamp()
where kind = $1
returning pg_notify('handler_changed', '') is not null

-- name: disable
-- The answer of an address that has been changed meanwhile disables nothing.
update handler set disabled_at = clock_timestamp()
where kind = $1 and updated_at = $2 and disabled_at is null
returning pg_notify('handler_changed', '') is not null

-- name: delete
delete from handler where kind = $1 returning pg_notify('handler_changed', '') is not null
