-- The tokens of rows from before are hashed, 500 rows at a time.
-- Without it: jobs that were started before cannot be opened by their token any more.
-- One statement, so that it may commit as it goes. If a timeout ends it, run it again: it goes on where it stopped.

do $$
declare
  batch uuid[];
  reached uuid;
begin
  if not exists (select from pg_constraint where conrelid = 'public.local_training_jobs'::regclass
                   and conname = 'ltj_token_hash_chk') then
    raise exception using message = 'the migration job_tokens comes first';
  end if;
  for pass in 1 .. 100 loop
    reached := null;
    loop
      batch := array(select id from public.local_training_jobs where reached is null or id > reached order by id limit 500);
      exit when cardinality(batch) = 0;
      reached := batch[cardinality(batch)];
      -- A row that somebody holds right now is left to the next pass.
      update public.local_training_jobs set
        job_token_hash = coalesce(job_token_hash, sha256(convert_to(job_token, 'UTF8'))),
        -- How the agent marked, on the table without a stage, what finalize may mend.
        failure_stage = case when status = 'failed' and starts_with(error_message, 'Not published: ')
          then coalesce(failure_stage, 'publish') else failure_stage end
      where id in (
        select id from public.local_training_jobs where id = any(batch)
          and (job_token is not null and job_token_hash is null
               or status = 'failed' and failure_stage is null and starts_with(error_message, 'Not published: '))
        for update skip locked);
      commit;
    end loop;
    exit when not exists (
      select from public.local_training_jobs where job_token is not null and job_token_hash is null
        or status = 'failed' and failure_stage is null and starts_with(error_message, 'Not published: '));
    perform pg_sleep(0.1);
  end loop;
  alter table public.local_training_jobs validate constraint ltj_token_hash_chk;  -- the proof that none was left
  commit;
  -- What an interrupted build of the next migration left: it would be taken for the index.
  if exists (select from pg_index where not indisvalid
               and indexrelid = to_regclass('public.local_training_jobs_token_hash_idx')) then
    perform private.lock_in_turns('public.local_training_jobs');
    drop index public.local_training_jobs_token_hash_idx;
  end if;
end $$;
