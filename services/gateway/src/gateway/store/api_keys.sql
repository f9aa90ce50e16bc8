-- name: find
select id, name, digest, scopes, shop, expires_at, created_at from api_key where id = $1

-- name: read
select id, name, digest, scopes, shop, expires_at, created_at from api_key
order by created_at desc, id

-- name: create
insert into api_key (id, name, digest, scopes, shop, expires_at, created_at, repeat_scope, repeat,
                     fingerprint)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (repeat_scope, repeat) where repeat is not null do nothing
returning id, name, digest, scopes, shop, expires_at, created_at, fingerprint

-- name: find_repeat
select id, name, digest, scopes, shop, expires_at, created_at, fingerprint from api_key
where repeat_scope = $1 and repeat = $2

-- name: delete
delete from api_key where id = $1 and ($2::text is null or shop = $2)

-- name: tell
select pg_notify('api_keys', '')
