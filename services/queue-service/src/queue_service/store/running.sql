-- name: checkpoint
select progress from queue_job where id = $1

-- name: waiting
-- What was put off, by its limit above all, waits as what is ready does; what is to run later does
-- not. No more is counted than the caller can make use of.
with whose as (
    select id from lane where queue = $1 and shop = $2
)
select count(*) from (
    select from queue_job j where j.lane = (select id from whose) and j.state = 'ready'
    union all
    select from queue_job j
    where j.lane = (select id from whose) and j.state = 'scheduled' and j.snoozes > 0
    limit $3
) as counted
