-- name: replace
with gone as (delete from known_queue where name <> all($1::text[]))
insert into known_queue (name) select unnest($1::text[]) on conflict do nothing

-- name: read
select name from known_queue order by name
