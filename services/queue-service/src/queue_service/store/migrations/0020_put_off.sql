-- Those of a lane that were put off, to be counted beside what is ready.
create index queue_job_put_off on queue_job (lane) where state = 'scheduled' and snoozes > 0;
