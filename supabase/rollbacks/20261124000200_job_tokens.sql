-- Hashes that are there stay; new tokens are not hashed any more.

begin;
set local client_min_messages = warning;  -- what exists already is no news

select private.lock_in_turns('public.local_training_jobs');
drop trigger if exists a_hash_job_token on public.local_training_jobs;
alter table public.local_training_jobs drop constraint if exists ltj_token_hash_chk;
drop function if exists private.hash_job_token(), private.request_job_token_hash(), private.request_job_id_claim();

commit;
