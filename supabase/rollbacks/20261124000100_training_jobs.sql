-- The columns keep what they hold under another name. A table that was made by the migration goes if it is empty.

begin;
set local client_min_messages = warning;  -- what exists already is no news

drop function if exists public.agent_migrations();

do $$
declare
  added record;
  rows_left boolean;
begin
  if to_regprocedure('private.lock_in_turns(regclass)') is null then
    return;  -- it was taken back already
  end if;
  if to_regclass('public.local_training_jobs') is not null then
    perform private.lock_in_turns('public.local_training_jobs');
    execute 'select exists (select from public.local_training_jobs)' into rows_left;
    if not rows_left and exists (select from private.undo where step = 'training_jobs') then
      drop table if exists private.rolled_back_model_upload_events;
      drop table public.local_training_jobs;
      delete from private.undo where step in ('training_jobs', 'columns');
    else
      for added in
        select statement as name from private.undo join pg_attribute
          on attrelid = 'public.local_training_jobs'::regclass and attname = statement and not attisdropped
        where step = 'columns'
      loop
        execute format('alter table public.local_training_jobs rename column %I to %I', added.name,
          'rolled_back_' || added.name);
      end loop;
    end if;
  end if;
  drop function private.lock_in_turns(regclass);
  drop function if exists private.uncounted(text), private.hub_path(text);
end $$;

commit;
