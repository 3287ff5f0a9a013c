-- A pod can add a sentence to the result_note of its job, also when the job is over, and nothing else.
-- Without it: a pod that could not be stopped after its job was over costs money, and the row does not say so.

begin;

-- The rules of row_rules keep a pod from a row that is final, and so this function runs as its owner. It opens the rows
-- that agent_only opens; a wrong id and a wrong token get the same answer. A sentence that is there is not added again.
create or replace function public.note_on_job(job uuid, note text) returns boolean
language plpgsql security definer set search_path = '' as $$
#variable_conflict use_variable  -- whatever columns an app adds
declare
  held text;
begin
  if coalesce(pg_catalog.length(note), 0) not between 1 and 8000 then
    raise exception using errcode = '23514', message = 'a note has 1 to 8000 characters';
  end if;
  select j.result_note into held from public.local_training_jobs j
    where j.id = job
      and (j.job_token_hash = private.request_job_token_hash()
             and coalesce(j.job_token_expires_at, 'infinity') > pg_catalog.now()
           or j.id = private.request_job_id_claim()
           or pg_catalog.current_setting('role', true) = 'service_role')  -- which may write every row
    for update;
  if not found then
    return false;
  end if;
  if pg_catalog.strpos(E'\n' || held || E'\n', E'\n' || note || E'\n') > 0 then
    return true;
  end if;
  held := pg_catalog.concat_ws(E'\n', nullif(held, ''), note);
  if pg_catalog.length(held) > 8000 then
    raise exception using errcode = '23514', message = 'result_note holds 8000 characters';
  end if;
  update public.local_training_jobs set result_note = held where id = job;
  return true;
exception when integrity_constraint_violation then  -- PostgreSQL's own words show the owner's rights: the whole row
  raise exception using errcode = '23514', message = sqlerrm;
end $$;
revoke execute on function public.note_on_job(uuid, text) from public, anon, authenticated;
grant execute on function public.note_on_job(uuid, text) to anon, service_role;

-- As training_jobs makes it, for databases where that was run before there was this file.
create or replace function public.agent_migrations() returns table (version text, applied boolean)
language sql stable set search_path = '' as $$
  with jobs as (select pg_catalog.to_regclass('public.local_training_jobs') as id)
  select v.version, coalesce(v.applied, false) from jobs, lateral (values
    ('20261124000100', (select pg_catalog.count(*) = 6 from pg_catalog.pg_attribute a where a.attrelid = jobs.id
       and a.attname in ('job_token_hash', 'job_token_expires_at', 'upload_attempt', 'heartbeat_at', 'result_note',
                         'failure_stage') and not a.attisdropped)),
    ('20261124000200', exists (select from pg_catalog.pg_trigger t where t.tgrelid = jobs.id
       and t.tgname = 'a_hash_job_token' and t.tgenabled in ('O', 'A'))),
    ('20261124000300', exists (select from pg_catalog.pg_constraint c where c.conrelid = jobs.id
       and c.conname = 'ltj_token_hash_chk' and c.convalidated)),
    ('20261124000400', exists (select from pg_catalog.pg_index i where i.indrelid = jobs.id and i.indisvalid
       and i.indexrelid = pg_catalog.to_regclass('public.local_training_jobs_token_hash_idx'))),
    ('20261124000500', (select r.relrowsecurity from pg_catalog.pg_class r where r.oid = jobs.id)
       and exists (select from pg_catalog.pg_policy p where p.polrelid = jobs.id
         and p.polname = 'agent_only' and not p.polpermissive)
       and not pg_catalog.has_column_privilege('anon', jobs.id, 'job_token', 'select')),
    ('20261124000600', exists (select from pg_catalog.pg_trigger t where t.tgrelid = jobs.id
       and t.tgname = 'guard_training_job' and t.tgenabled in ('O', 'A'))),
    ('20261124000700', exists (select from pg_catalog.pg_constraint c where c.conrelid = jobs.id
         and c.conname = 'ltj_status_chk')
       and not exists (select from pg_catalog.pg_constraint c where c.conrelid = jobs.id
         and c.conname in ('ltj_status_chk', 'ltj_progress_chk', 'ltj_stage_chk') and not c.convalidated)),
    ('20261124000800', pg_catalog.to_regclass('public.model_upload_events') is not null
       and exists (select from pg_catalog.pg_trigger t where t.tgrelid = jobs.id
         and t.tgname = 'audit_training_job' and t.tgenabled in ('O', 'A'))),
    ('20261124000900', pg_catalog.to_regprocedure('public.mark_stale_jobs(interval)') is not null),
    ('20261124001000', not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime')
       or exists (select from pg_catalog.pg_class r join pg_catalog.pg_publication_tables p
         on p.schemaname = 'public' and p.tablename = 'local_training_jobs'
         where r.oid = jobs.id and r.relreplident = 'd' and p.pubname = 'supabase_realtime')),
    ('20261126000100', pg_catalog.has_function_privilege('anon',
       pg_catalog.to_regprocedure('public.note_on_job(uuid, text)'), 'execute'))
  ) v (version, applied)
$$;
revoke execute on function public.agent_migrations() from public;
grant execute on function public.agent_migrations() to anon, authenticated, service_role;

commit;
