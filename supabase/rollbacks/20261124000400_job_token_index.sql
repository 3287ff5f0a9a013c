-- One statement, outside of any transaction: nobody waits for it.

drop index concurrently if exists public.local_training_jobs_token_hash_idx;
