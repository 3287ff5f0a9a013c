-- The policies and rights from before come back, and with them whatever they opened.

begin;
set local client_min_messages = warning;  -- what exists already is no news

select private.lock_in_turns('public.local_training_jobs');
drop policy if exists agent_only on public.local_training_jobs;
drop policy if exists agent_adds_none on public.local_training_jobs;
drop policy if exists agent_select on public.local_training_jobs;
drop policy if exists agent_update on public.local_training_jobs;
drop policy if exists owner_cancel on public.local_training_jobs;
drop policy if exists uncounted on public.local_training_jobs;

do $$
declare
  undone record;
begin
  for undone in select statement from private.undo where step = 'row_rights' order by id loop
    execute undone.statement;
  end loop;
  delete from private.undo where step = 'row_rights';
end $$;
drop function if exists private.pod_columns();

commit;
