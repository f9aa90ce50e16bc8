-- name: oldest
-- Who keeps dead rows from being cleaned up: the transaction, slot or prepared transaction with the
-- oldest snapshot, or number of its own, that counts for this database. `age_s` is null where it
-- cannot be told.
select holder, key, transactions, age_s from (
    select
        'session' as holder, concat_ws(' ', nullif(application_name, ''), 'pid', pid) as key,
        greatest(age(backend_xid), age(backend_xmin)) as transactions,
        extract(epoch from clock_timestamp() - xact_start)::float8 as age_s
    from pg_stat_activity
    where (backend_xid is not null or backend_xmin is not null) and pid <> pg_backend_pid()
        and (datname = current_database() or backend_type = 'walsender')
    union all
    select 'prepared', gid, age(transaction), extract(epoch from clock_timestamp() - prepared)::float8
    from pg_prepared_xacts where database = current_database()
    union all
    select 'slot', slot_name::text, age(xmin), null
    from pg_replication_slots where xmin is not null
) as holders
order by transactions desc, age_s desc nulls last limit 1
