-- A promise of before may arrive after its shop was forgotten.
create index job_sweep_redacted on job_sweep ((filter ->> 'shop')) where verb = 'redact';
