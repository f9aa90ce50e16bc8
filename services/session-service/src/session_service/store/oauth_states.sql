-- name: keep
insert into oauth_state
    (state_hash, browser_hash, shop, is_online, return_to, host, expires_at)
values ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7 * interval '1 second')

-- name: claim
-- One at a time. Another browser, another shop, one that is over: nothing.
update oauth_state s set
    claimed_by = case when held.is_free then $4 else claimed_by end,
    claimed_until = case when held.is_free then clock_timestamp() + $5 * interval '1 second'
                         else claimed_until end
from (select state_hash,
             claimed_until is null or claimed_until < clock_timestamp() as is_free
      from oauth_state where state_hash = $1 for update) held
where s.state_hash = held.state_hash and s.browser_hash = $2 and s.shop = $3
  and s.expires_at > clock_timestamp()
returning s.is_online, s.return_to, s.host, held.is_free

-- name: release
update oauth_state set claimed_by = null, claimed_until = null
where state_hash = $1 and claimed_by = $2

-- name: finish
delete from oauth_state where state_hash = $1 and claimed_by = $2

-- name: delete_ended
delete from oauth_state where state_hash in (
    select state_hash from oauth_state where expires_at < clock_timestamp()
    order by expires_at limit $1 for update skip locked)
