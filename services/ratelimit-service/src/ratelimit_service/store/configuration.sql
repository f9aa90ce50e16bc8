-- name: lock
select pg_advisory_xact_lock($1)

-- name: newest
select last_value from policy_version

-- name: find
select kind, scope, name, version, document::text, author, updated_at from configuration
where kind = $1 and scope = $2 and name = $3

-- name: find_policy
select 'policy' as kind, '' as scope, id as name, version, spec::text as document, author,
       updated_at
from policy where id = $1

-- name: page
select kind, scope, name, version, document::text, author, updated_at from configuration
where kind = $1 and ($2::text is null or scope = $2) and (scope, name) > ($3, $4)
  and document is not null
  and (kind <> 'override' or coalesce((document ->> 'expires_at')::timestamptz > now(), true))
order by scope, name limit $5

-- name: page_of_policies
select 'policy' as kind, '' as scope, id as name, version, spec::text as document, author,
       updated_at
from policy where spec is not null and id collate "C" > $1 order by id collate "C" limit $2

-- name: since
-- Each part by its own index: a page costs as much as its rows.
(
    select 'policy' as kind, '' as scope, id as name, version, spec::text as document, author,
           updated_at
    from policy where version > $1 order by version limit $2
)
union all
(
    select kind, scope, name, version, document::text, author, updated_at
    from configuration where version > $1 order by version limit $2
)
order by version limit $2

-- name: put
insert into configuration (kind, scope, name, document, author) values ($1, $2, $3, $4, $5)
on conflict (kind, scope, name) do update set
    document = excluded.document, version = excluded.version, author = excluded.author,
    updated_at = now()
returning kind, scope, name, version, document::text, author, updated_at

-- name: put_policy
insert into policy (id, spec, author) values ($1, $2, $3)
on conflict (id) do update set
    spec = excluded.spec, version = excluded.version, author = excluded.author, updated_at = now()
returning 'policy' as kind, '' as scope, id as name, version, spec::text as document, author,
       updated_at

-- name: plans_naming
select kind, scope, name, version, document::text, author, updated_at from configuration
where kind = 'plan' and document -> 'policies' ? $1

-- name: shops_on
select count(*) from configuration where kind = 'shop' and document ->> 'plan' = $1

-- name: sorts_of_overrides
-- Of those that change the same for shops on the same plan, one is as good as all.
select distinct on (o.name, o.document - 'reason' - 'expires_at', s.document ->> 'plan')
    o.scope, o.name, o.document::text, s.document ->> 'plan' as plan
from configuration o
left join configuration s on s.kind = 'shop' and s.scope = o.scope
where o.kind = 'override' and o.document is not null
  and coalesce((o.document ->> 'expires_at')::timestamptz > now(), true)
  and ($1::text is null or o.name = $1)
  and ($2::text is null or s.document ->> 'plan' = $2)
  and ($3::text is null or o.scope = $3)

-- name: record
insert into audit (author, action, subject, before, after) values ($1, $2, $3, $4, $5)

-- name: tell
select pg_notify($1, $2)

-- name: seed
-- What has ever been there, deleted ones included, is the database's to say.
insert into policy (id, spec)
select s.id, s.spec from unnest($1::text[], $2::jsonb[]) s(id, spec)
on conflict (id) do nothing
