-- The Hubs that were allowed stay listed, for a second time.

begin;

select private.lock_in_turns('public.local_training_jobs');
drop trigger if exists guard_training_job on public.local_training_jobs;
drop function if exists private.guard_training_job();
alter table public.local_training_jobs
  drop constraint if exists ltj_status_chk,
  drop constraint if exists ltj_progress_chk,
  drop constraint if exists ltj_stage_chk;

commit;
