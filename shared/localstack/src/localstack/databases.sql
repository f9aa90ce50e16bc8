-- The four databases and their roles. `format` quotes: names and passwords cannot be parameters.

-- name: role_exists
select exists (select from pg_roles where rolname = $1)

-- name: create_role
select format('create role %I login password %L', $1::text, $2::text)

-- name: alter_role
select format('alter role %I login password %L', $1::text, $2::text)

-- name: database_exists
select exists (select from pg_database where datname = $1)

-- name: become_member
-- Whoever makes a database for a role must be a member of it, unless a superuser.
select format('grant %I to current_user', $1::text)

-- name: is_superuser
select rolsuper from pg_roles where rolname = current_user

-- name: create_database
select format('create database %1$I owner %1$I', $1::text)

-- name: close_to_others
select format('revoke all on database %I from public', $1::text)

-- name: in_use
select count(*) from pg_stat_activity where usename = any($1)

-- name: server_version
select current_setting('server_version')
