-- A token finds its row without reading the table.
-- Without it: a pod that asks for its row without the id reads the whole table.
-- One statement, outside of any transaction: nobody waits for it. An interrupted build leaves an invalid
-- index, which is taken for the index: run the rollback of this file, then the file again.

create index concurrently if not exists local_training_jobs_token_hash_idx on public.local_training_jobs (job_token_hash);
