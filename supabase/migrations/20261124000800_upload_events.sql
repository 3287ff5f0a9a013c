-- The audit trail: what was done for a job, by its pod and to its row. It only grows.
-- Without it: `history` knows only what is on the pod's own disk.

begin;
set local client_min_messages = warning;  -- what exists already is no news

select private.lock_in_turns('public.local_training_jobs');

do $$
begin
  if to_regclass('private.rolled_back_model_upload_events') is not null then
    alter table private.rolled_back_model_upload_events rename to model_upload_events;
    alter table private.model_upload_events set schema public;
  end if;
end $$;

create table if not exists public.model_upload_events (
  id bigint generated always as identity primary key,
  job_id uuid not null references public.local_training_jobs (id) on delete cascade,
  event_key text not null check (length(event_key) between 1 and 200),  -- the pod's own: the same event again is one event
  event text not null check (event in ('started', 'gate_refused', 'repo_created', 'content_uploaded', 'committed',
    'verified', 'recorded', 'record_rejected', 'failed', 'interrupted', 'rolled_back', 'released', 'status_changed')),
  source text not null default 'agent' check (source in ('agent', 'trigger')),
  repo_id text check (length(repo_id) <= 200),
  commit_sha text check (commit_sha ~ '^[0-9a-f]{40}$'),
  model_url text check (length(model_url) <= 512),
  bytes bigint check (bytes >= 0),
  files int check (files >= 0),
  attempt int check (attempt between 0 and 1000),
  from_status text,
  to_status text,
  detail jsonb not null default '{}' check (pg_column_size(detail) <= 16384),
  happened_at timestamptz check (isfinite(happened_at)),  -- by the pod's clock
  actor_role text not null default current_user,
  request_id text default (nullif(current_setting('request.headers', true), '')::json ->> 'x-request-id'),
  created_at timestamptz not null default clock_timestamp(),
  unique (job_id, event_key),
  constraint only_the_trigger_sees_the_row_change check ((event = 'status_changed') = (source = 'trigger'))
);
create index if not exists model_upload_events_job_idx on public.model_upload_events (job_id, created_at);

alter table public.model_upload_events enable row level security;
-- Nobody is shown `id`: it counts the events of everybody.
revoke all on public.model_upload_events from public, anon, authenticated, service_role;
revoke all on sequence public.model_upload_events_id_seq from public, anon, authenticated, service_role;
grant
  insert (job_id, event_key, event, repo_id, commit_sha, model_url, bytes, files, attempt, detail, happened_at),
  select (job_id, event_key, event, source, repo_id, commit_sha, model_url, bytes, files, attempt, from_status, to_status,
          detail, happened_at, created_at)
  on public.model_upload_events to anon;
grant select (job_id, event_key, event, source, repo_id, commit_sha, model_url, bytes, files, attempt, from_status,
              to_status, detail, happened_at, actor_role, request_id, created_at)
  on public.model_upload_events to authenticated;
grant
  insert (job_id, event_key, event, repo_id, commit_sha, model_url, bytes, files, attempt, detail, happened_at), select
  on public.model_upload_events to service_role;

-- The rows of jobs that these look for are themselves only those that the asker may see.
drop policy if exists agent_insert on public.model_upload_events;
create policy agent_insert on public.model_upload_events for insert to anon
  with check (source = 'agent' and exists (select from public.local_training_jobs j where j.id = job_id)
    and (model_url is null or private.hub_path(model_url) is not null));
drop policy if exists agent_read on public.model_upload_events;
create policy agent_read on public.model_upload_events for select to anon
  using (exists (select from public.local_training_jobs j where j.id = job_id));
drop policy if exists owner_read on public.model_upload_events;
create policy owner_read on public.model_upload_events for select to authenticated
  using (exists (select from public.local_training_jobs j where j.id = job_id and j.user_id = (select auth.uid())));

drop policy if exists uncounted on public.model_upload_events;
create policy uncounted on public.model_upload_events as restrictive for select to anon, authenticated
  using (private.uncounted(event_key));

create or replace function private.audit_training_job() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if (new.status, new.model_url) is distinct from (old.status, old.model_url) then
    insert into public.model_upload_events
      (job_id, event_key, event, source, model_url, from_status, to_status, actor_role, detail, created_at)
    values (new.id, 'row:' || pg_catalog.gen_random_uuid(), 'status_changed', 'trigger',
      pg_catalog."left"(new.model_url, 512), old.status, new.status,
      coalesce(nullif(pg_catalog.current_setting('role', true), 'none'), session_user),
      pg_catalog.jsonb_build_object('progress', new.progress), pg_catalog.now());
  end if;
  return null;
end $$;
revoke execute on function private.audit_training_job() from public;
create or replace trigger audit_training_job after update on public.local_training_jobs
  for each row execute function private.audit_training_job();

-- For everybody, the owner of the database too; only deleting the job itself takes its trail along.
create or replace function private.keep_events() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise sqlstate 'PT405' using message = 'model_upload_events only grows';
end $$;
revoke execute on function private.keep_events() from public;
create or replace trigger model_upload_events_only_grow before update or delete on public.model_upload_events
  for each row when (pg_trigger_depth() = 0) execute function private.keep_events();
create or replace trigger model_upload_events_stay before truncate on public.model_upload_events
  for each statement execute function private.keep_events();

commit;
