-- name: claim_named
select o_lane, o_id, o_lease_no, o_kind, o_shop, o_attempt, o_max_attempts, o_snoozes, o_timeout_s,
    o_retry::text, o_tags, o_batch_id, o_created_at, o_run_at, o_args::text
from claim_named_jobs($1, $2, $3)
