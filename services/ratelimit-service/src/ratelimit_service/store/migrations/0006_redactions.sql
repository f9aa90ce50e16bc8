-- Which shops were forgotten at whose request: by its id alone, so that nothing of them is kept.
create table redaction (
    event_id uuid primary key,
    at timestamptz not null default clock_timestamp()
);

-- What is told of a list, but for one subject of it.
create function without_subject(told jsonb, subject text) returns jsonb language sql immutable as $$
    select jsonb_set(told, '{items}', coalesce(
        (select jsonb_agg(entry order by place)
         from jsonb_array_elements(told -> 'items') with ordinality e (entry, place)
         where lower(trim(entry ->> 'subject')) <> subject), '[]'))
$$;
