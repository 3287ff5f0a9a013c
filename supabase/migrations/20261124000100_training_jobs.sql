-- The table of jobs, with the columns that publishing needs.
-- Without it: a failed publication looks like a failed training, and nobody sees whether a pod still lives.

begin;
set local client_min_messages = warning;  -- what exists already is no news

create schema if not exists private;  -- not among the schemas of the API: nothing in it can be asked for over HTTP
grant usage on schema private to anon, authenticated, service_role;  -- policies and triggers look into it

-- What brings back what a migration replaced; the rollbacks read it.
create table if not exists private.undo (
  id bigint generated always as identity primary key,
  step text not null,
  statement text not null
);
revoke all on private.undo from public, anon, authenticated, service_role;

-- A lock that waits behind a long transaction makes everybody else wait behind it. So it is asked for in short turns.
create or replace function private.lock_in_turns(target regclass) returns void
language plpgsql set search_path = '' as $$
begin
  for turn in 1 .. 300 loop
    begin
      perform pg_catalog.set_config('lock_timeout', '100ms', true);
      execute pg_catalog.format('lock table %s in access exclusive mode', target);
      return;
    exception when lock_not_available then
      perform pg_catalog.pg_sleep(0.05 + 0.1 * pg_catalog.random());
    end;
  end loop;
  raise exception using errcode = '55P03', message = pg_catalog.format('%s is never free', target),
    hint = 'A transaction holds it for minutes: end that one (see pg_stat_activity), then run the migration again.';
end $$;
revoke execute on function private.lock_in_turns(regclass) from public, anon, authenticated, service_role;

-- Always true, which the planner does not know: it takes a row that passes for one in eight millions. Else its estimate,
-- which the API tells whoever asks for `count=planned`, would tell how many rows there are that nobody may see.
create or replace function private.uncounted(key text) returns boolean
language sql immutable as $$
  select key operator(pg_catalog.||) '' operator(pg_catalog.=) key
    and '' operator(pg_catalog.||) key operator(pg_catalog.=) key
    and key operator(pg_catalog.||) '' operator(pg_catalog.=) ('' operator(pg_catalog.||) key)
$$;
revoke execute on function private.uncounted(text) from public;
grant execute on function private.uncounted(text) to anon, authenticated, service_role;

do $$
declare
  definition text;
  name text;
begin
  if to_regclass('public.local_training_jobs') is null then
    create table public.local_training_jobs (
      id uuid primary key default gen_random_uuid(),
      user_id uuid not null references auth.users(id) on delete cascade,
      model_name text not null,
      base_model text,
      dataset_path text,
      status text not null default 'pending',
      job_token text,
      config jsonb,
      current_step int,
      current_epoch double precision,
      total_steps int,
      total_epochs int,
      loss double precision,
      eval_loss double precision,
      learning_rate double precision,
      grad_norm double precision,
      samples_per_second double precision,
      gpu_memory_allocated_gb double precision,
      gpu_memory_reserved_gb double precision,
      elapsed_seconds int,
      remaining_seconds int,
      created_at timestamptz default now()
    );
    alter table public.local_training_jobs enable row level security;
    create policy "Users can view their own jobs" on public.local_training_jobs
      for select using (user_id = (select auth.uid()));
    insert into private.undo (step, statement) values ('training_jobs', 'the table was made here');
  end if;
  perform private.lock_in_turns('public.local_training_jobs');
  -- Times are when the token ends (null: never) and when the pod was last heard of; result_note is a sentence for people;
  -- failure_stage is training (final), publish (finalize mends it) or lost (the pod vanished). A rollback takes nothing
  -- away: it renames the columns that were added here.
  foreach definition in array array['job_token_hash bytea', 'job_token_expires_at timestamptz',
    'upload_attempt int not null default 0', 'heartbeat_at timestamptz', 'result_note text', 'failure_stage text'] loop
    name := split_part(definition, ' ', 1);
    if exists (select from pg_attribute where attrelid = 'public.local_training_jobs'::regclass
                 and attname = 'rolled_back_' || name and not attisdropped) then
      execute format('alter table public.local_training_jobs rename column %I to %I', 'rolled_back_' || name, name);
    elsif not exists (select from pg_attribute where attrelid = 'public.local_training_jobs'::regclass
                        and attname = name and not attisdropped) then
      execute 'alter table public.local_training_jobs add column ' || definition;
      insert into private.undo (step, statement) values ('columns', name);
    end if;
  end loop;
end $$;

alter table public.local_training_jobs
  add column if not exists job_token text,
  add column if not exists progress double precision,
  add column if not exists model_url text,
  add column if not exists metadata jsonb default '{}'::jsonb,
  add column if not exists error_message text,
  add column if not exists started_at timestamptz,
  add column if not exists completed_at timestamptz,
  add column if not exists updated_at timestamptz default now();

-- Which migrations are in force, told from the catalog and not from a record of what was once run.
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

begin;
set local client_min_messages = warning;

-- Where the platform keeps its users' tokens, the name that belongs to one is kept beside it.
do $$
begin
  if to_regclass('public.provider_secrets') is not null then
    perform private.lock_in_turns('public.provider_secrets');
    alter table public.provider_secrets add column if not exists metadata jsonb default '{}'::jsonb;
  end if;
end $$;

commit;
