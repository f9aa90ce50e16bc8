-- name: register
-- Twice is once: the answer to the first may have been lost.
insert into worker (id, name) values ($1, $2) on conflict (id) do nothing

-- name: beat
-- No row: the worker was taken for dead and its jobs were given away.
update worker set beat_at = clock_timestamp() where id = $1 returning true

-- name: held
-- What the database thinks this worker holds. What has never waited was handed over.
select id, lease_no, cancel_requested, seq = 0 from queue_job where worker = $1 and state = 'running'
limit 10000

-- name: sign_off
delete from worker where id = $1
