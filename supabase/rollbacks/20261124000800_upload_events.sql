-- No more events; those that were written are kept where no API reaches them.

begin;

select private.lock_in_turns('public.local_training_jobs');
drop trigger if exists audit_training_job on public.local_training_jobs;
drop function if exists private.audit_training_job();

do $$
begin
  if to_regclass('public.model_upload_events') is not null then
    drop policy if exists agent_insert on public.model_upload_events;
    drop policy if exists agent_read on public.model_upload_events;
    drop policy if exists owner_read on public.model_upload_events;
    drop policy if exists uncounted on public.model_upload_events;
    alter table public.model_upload_events set schema private;
    alter table private.model_upload_events rename to rolled_back_model_upload_events;
  end if;
end $$;

commit;
