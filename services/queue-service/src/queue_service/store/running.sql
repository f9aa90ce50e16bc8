-- name: checkpoint
select progress from queue_job where id = $1

-- name: waiting
-- No more is counted than the caller can make use of.
select count(*) from (
    select from queue_job j
    where j.lane = (select id from lane where queue = $1 and shop = $2) and j.state = 'ready'
    limit $3
) as counted
