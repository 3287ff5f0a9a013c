-- The columns keep what they hold under another name. A table that was made by the migration goes if it is empty.

begin;
set local client_min_messages = warning;  -- what exists already is no news

drop function if exists public.agent_migrations();

do $$
declare
  column_name text;
  rows_left boolean;
begin
  if to_regclass('public.local_training_jobs') is null then
    return;
  end if;
  perform private.lock_in_turns('public.local_training_jobs');
  execute 'select exists (select from public.local_training_jobs)' into rows_left;
  if not rows_left and exists (select from private.undo where step = 'training_jobs') then
    drop table if exists private.rolled_back_model_upload_events;
    drop table public.local_training_jobs;
    delete from private.undo where step = 'training_jobs';
    return;
  end if;
  foreach column_name in array array['job_token_hash', 'job_token_expires_at', 'upload_attempt', 'heartbeat_at',
                                     'result_note', 'failure_stage'] loop
    if exists (select from pg_attribute where attrelid = 'public.local_training_jobs'::regclass
                 and attname = column_name and not attisdropped) then
      execute format('alter table public.local_training_jobs rename column %I to %I',
        column_name, 'rolled_back_' || column_name);
    end if;
  end loop;
end $$;

drop function if exists private.lock_in_turns(regclass);

commit;
