-- A row opens with its own token only, and shows its pod and its owner no secret.
-- Without it: whoever holds the public key reads the token of every job, and completes or redirects any of them.

begin;
set local client_min_messages = warning;  -- what exists already is no news
set local search_path = '';  -- policies are read below as text: with all names in full

-- What a pod may write. Everything else in a row is the platform's.
create or replace function private.pod_columns() returns text[]
language sql immutable set search_path = '' as $$
  select array['status', 'progress', 'model_url', 'error_message', 'result_note', 'failure_stage', 'started_at',
    'upload_attempt', 'current_step', 'current_epoch', 'total_steps', 'total_epochs', 'loss', 'eval_loss',
    'learning_rate', 'grad_norm', 'samples_per_second', 'gpu_memory_allocated_gb', 'gpu_memory_reserved_gb',
    'elapsed_seconds', 'remaining_seconds']
$$;
revoke execute on function private.pod_columns() from public;
grant execute on function private.pod_columns() to anon, authenticated, service_role;

select private.lock_in_turns('public.local_training_jobs');

-- First of all remember what is replaced here.
insert into private.undo (step, statement)
select 'row_rights', undone.statement from (
  select format('alter table public.local_training_jobs %s row level security',
           case when relrowsecurity then 'enable' else 'disable' end)
    from pg_class where oid = 'public.local_training_jobs'::regclass
  union all
  select 'revoke all on public.local_training_jobs from public, anon, authenticated, service_role'
  union all
  select format('grant %s on public.local_training_jobs to %s%s', a.privilege_type,
           case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
           case when a.is_grantable then ' with grant option' end)
    from pg_class c, aclexplode(c.relacl) a
    where c.oid = 'public.local_training_jobs'::regclass and a.grantee <> c.relowner
  union all
  select format('grant %s (%I) on public.local_training_jobs to %s%s', a.privilege_type, c.attname,
           case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
           case when a.is_grantable then ' with grant option' end)
    from pg_attribute c, aclexplode(c.attacl) a
    where c.attrelid = 'public.local_training_jobs'::regclass and c.attacl is not null and not c.attisdropped
) undone (statement)
where not exists (select from private.undo where step = 'row_rights');

alter table public.local_training_jobs enable row level security;

do $$
declare
  theirs record;
  opens text := '(job_token_hash = (select private.request_job_token_hash())
                   and coalesce(job_token_expires_at, ''infinity'') > now()
                  or id = (select private.request_job_id_claim()))';
  listed text;
begin
  -- A policy that does not ask who is there opens rows to everybody. (Supabase's own service_role passes without any.)
  for theirs in
    select p.*, format('drop policy if exists %I on public.local_training_jobs; create policy %I on public.local_training_jobs'
        ' as %s for %s to %s%s%s', policyname, policyname, permissive, cmd,
      (select string_agg(case when r = 'public' then r else quote_ident(r) end, ', ') from unnest(roles) r),
      ' using (' || qual || ')', ' with check (' || with_check || ')') as made_by,
      coalesce(qual, '') || ' ' || coalesce(with_check, '') as asks
    from pg_policies p where schemaname = 'public' and tablename = 'local_training_jobs'
  loop
    if theirs.policyname in ('agent_only', 'agent_adds_none', 'agent_select', 'agent_update', 'owner_cancel', 'uncounted') then
      execute format('drop policy %I on public.local_training_jobs', theirs.policyname);
    elsif theirs.permissive = 'PERMISSIVE' and theirs.roles && '{public,anon,authenticated}'
      and theirs.asks !~ 'auth\.(uid|jwt)\(\)' and not (theirs.asks ~ 'auth\.role\(\)' and theirs.asks ~ 'service_role') then
      insert into private.undo (step, statement) values ('row_rights', theirs.made_by);
      execute format('drop policy %I on public.local_training_jobs', theirs.policyname);
    end if;
  end loop;

  -- Whatever other policies allow the anonymous, now or later: no row without its credential.
  execute 'create policy agent_only on public.local_training_jobs as restrictive for all to anon using ' || opens
    || ' with check ' || opens;
  create policy agent_adds_none on public.local_training_jobs as restrictive for insert to anon with check (false);
  execute 'create policy agent_select on public.local_training_jobs for select to anon using ' || opens;
  execute 'create policy agent_update on public.local_training_jobs for update to anon using ' || opens
    || ' with check ' || opens;
  create policy uncounted on public.local_training_jobs as restrictive for select to anon, authenticated
    using (private.uncounted(id::text));
  -- The signed-in owner may cancel. Jobs are inserted by the platform's server.
  create policy owner_cancel on public.local_training_jobs for update to authenticated
    using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

  -- A right to the table is a right to all its columns, whatever is granted beside it: it has to go first.
  revoke all on public.local_training_jobs from public, anon, authenticated;
  for theirs in
    select distinct verb from pg_policies, unnest(case cmd when 'ALL' then '{INSERT,DELETE}'::text[] else array[cmd] end) verb
    where schemaname = 'public' and tablename = 'local_training_jobs' and permissive = 'PERMISSIVE'
      and roles && '{public,authenticated}' and verb in ('INSERT', 'DELETE')
  loop
    execute format('grant %s on public.local_training_jobs to authenticated', theirs.verb);
  end loop;
  select string_agg(quote_ident(attname), ', ') into listed from pg_attribute
    where attrelid = 'public.local_training_jobs'::regclass and attname = any(private.pod_columns()) and not attisdropped;
  execute format('grant update (%s) on public.local_training_jobs to anon', listed);
  select string_agg(quote_ident(attname), ', ') into listed from pg_attribute
    where attrelid = 'public.local_training_jobs'::regclass and not attisdropped
      and attname in ('id', 'user_id', 'status', 'progress', 'model_name', 'model_url', 'error_message', 'result_note',
                      'failure_stage', 'started_at', 'completed_at', 'updated_at', 'heartbeat_at', 'upload_attempt');
  execute format('grant select (%s) on public.local_training_jobs to anon', listed);
  select string_agg(quote_ident(attname), ', ') into listed from pg_attribute
    where attrelid = 'public.local_training_jobs'::regclass and attnum > 0 and not attisdropped
      and attname not in ('job_token', 'job_token_hash', 'job_token_expires_at');
  execute format('grant select (%s) on public.local_training_jobs to authenticated', listed);
  grant update (status, completed_at, updated_at) on public.local_training_jobs to authenticated;
  grant select, insert, update, delete on public.local_training_jobs to service_role;
end $$;

commit;
