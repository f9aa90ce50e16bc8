-- name: begin
insert into redaction (event_id) values ($1) on conflict do nothing returning true

-- name: places_of
select kind, scope, name from configuration
where scope = $1 and kind in ('override', 'shop') and document is not null and updated_at <= $2

-- name: forget_usage
delete from usage_minute where shop = $1 and minute <= $2

-- name: forget_learned
delete from learned where shop = $1 and updated_at <= $2

-- name: forget_audit
delete from audit where at <= $2
    and (starts_with(subject, $1 || '/') or starts_with(subject, '{s:' || $1 || '}:'))

-- name: forget_listed
-- Of a change of a list only this shop's entries go.
update audit set before = without_subject(before, $1), after = without_subject(after, $1)
where at <= $2 and starts_with(action, 'list.')
