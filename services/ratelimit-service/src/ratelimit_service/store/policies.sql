-- name: seed
-- What has ever been there, deleted ones included, is the database's to say.
insert into policy (id, spec)
select s.id, s.spec from unnest($1::text[], $2::jsonb[]) s(id, spec)
on conflict (id) do nothing

-- name: all
select id, version, spec, updated_at from policy where spec is not null

-- name: page
select id, version, spec, updated_at from policy
where spec is not null and id collate "C" > $1 order by id collate "C" limit $2

-- name: find
select id, version, spec, updated_at from policy where id = $1 and spec is not null

-- name: put
-- An equal spec changes nothing: no new version, and no record has to be converted.
with changed as (
    insert into policy as p (id, spec) values ($1, $2)
    on conflict (id) do update
        set spec = excluded.spec, version = excluded.version, updated_at = now()
        where p.spec is distinct from excluded.spec
    returning id, version, spec, updated_at
), told as (
    select pg_notify('ratelimit_policies', id) from changed
)
select c.id, c.version, c.spec, c.updated_at from changed c cross join told
union all
select p.id, p.version, p.spec, p.updated_at from policy p
where p.id = $1 and p.spec = $2 and not exists (select from changed)

-- name: delete
with gone as (
    update policy set spec = null, version = nextval('policy_version'), updated_at = now()
    where id = $1 and spec is not null returning id
)
select pg_notify('ratelimit_policies', id) from gone
