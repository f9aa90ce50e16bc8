-- name: spend
insert into refund (nonce, expires_at)
values ($1, clock_timestamp() + make_interval(secs => $2))
on conflict do nothing returning true

-- name: sweep
delete from refund where nonce in (
    select nonce from refund where expires_at < clock_timestamp()
    order by expires_at limit 5000 for update skip locked)
