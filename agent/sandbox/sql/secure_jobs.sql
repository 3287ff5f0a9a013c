-- A hardened jobs table: a per-job token in the request header x-job-token, or a per-job JWT claim.
-- Runs on the table as the app ships it (jobs_table.sql), any number of times, on PostgreSQL 15 and newer.
begin;
create schema if not exists private;               -- not in PostgREST's db-schemas => unreachable over HTTP
revoke all on schema private from public;
grant usage on schema private to anon, authenticated, service_role;  -- needed to evaluate the policy functions

alter table public.local_training_jobs
  add column if not exists job_token_hash bytea,                 -- sha256(token); the plaintext column stays for the app, unreadable to the API roles
  add column if not exists job_token_expires_at timestamptz,
  add column if not exists upload_attempt int not null default 0,
  add column if not exists heartbeat_at timestamptz,             -- set by the trigger on every write of the pod
  add column if not exists result_note text,                     -- a sentence for people: why not published, what to do
  add column if not exists failure_stage text;                   -- training: final · publish: finalize may mend it · lost: the pod vanished, it may come back
create unique index if not exists local_training_jobs_token_hash_uq on public.local_training_jobs(job_token_hash);
update public.local_training_jobs set job_token_hash = sha256(convert_to(job_token,'UTF8'))
  where job_token is not null and job_token_hash is null;

-- the app goes on inserting plaintext tokens; the hash follows by itself
create or replace function private.hash_job_token() returns trigger language plpgsql set search_path = '' as $$
begin
  if new.job_token is not null and (tg_op = 'INSERT' or new.job_token is distinct from old.job_token) then
    new.job_token_hash := pg_catalog.sha256(pg_catalog.convert_to(new.job_token, 'UTF8'));
  end if;
  return new;
end $$;
drop trigger if exists a_hash_job_token on public.local_training_jobs;
create trigger a_hash_job_token before insert or update of job_token on public.local_training_jobs for each row execute function private.hash_job_token();

-- NOT VALID: old rows are not scanned, so no long lock
alter table public.local_training_jobs
  drop constraint if exists ltj_status_chk, drop constraint if exists ltj_progress_chk, drop constraint if exists ltj_completed_chk,
  drop constraint if exists ltj_model_url_chk, drop constraint if exists ltj_error_len_chk, drop constraint if exists ltj_stage_chk;
alter table public.local_training_jobs
  add constraint ltj_status_chk check (status in ('pending','queued','running','paused','uploading','completed','failed','cancelled')) not valid,
  add constraint ltj_progress_chk check (progress is null or (progress >= 0 and progress <= 100)) not valid,
  add constraint ltj_completed_chk check (status <> 'completed' or (progress = 100 and completed_at is not null)) not valid,
  add constraint ltj_model_url_chk check (model_url is null or (char_length(model_url) <= 512 and model_url ~ '^https?://[^[:space:]]+$')) not valid,
  add constraint ltj_error_len_chk check (char_length(coalesce(error_message,'')) <= 8000 and char_length(coalesce(result_note,'')) <= 8000) not valid,
  add constraint ltj_stage_chk check (failure_stage is null or failure_stage in ('training','publish','lost')) not valid;

-- Hubs a model_url may point to. A platform with its own Hub (or a test) adds a row; the pod cannot.
create table if not exists private.model_hosts (origin text primary key check (origin ~ '^https?://[^/[:space:]]+$'));
insert into private.model_hosts values ('https://huggingface.co') on conflict do nothing;
revoke all on private.model_hosts from anon, authenticated, public;
grant select on private.model_hosts to anon, authenticated, service_role;

-- The credential of the current HTTP request, hashed. STABLE + (select ...) in the policy => evaluated once per statement.
-- search_path is pinned; SECURITY INVOKER: it reads only GUCs. NULL when the header is missing => no row matches.
create or replace function private.request_job_token_hash() returns bytea
language sql stable set search_path = '' as $$
  select case when length(h.tok) between 32 and 256 then pg_catalog.sha256(pg_catalog.convert_to(h.tok,'UTF8')) end
  from (select coalesce(nullif(pg_catalog.current_setting('request.headers', true),''),'{}')::pg_catalog.json ->> 'x-job-token' as tok) h
$$;
-- alternative credential: a short-lived JWT {role:'anon', job_id:<uuid>, exp}
create or replace function private.request_job_id_claim() returns uuid
language sql stable set search_path = '' as $$
  select nullif(coalesce(nullif(pg_catalog.current_setting('request.jwt.claims', true),''),'{}')::pg_catalog.jsonb ->> 'job_id','')::uuid
$$;
revoke execute on all functions in schema private from public;
grant execute on function private.request_job_token_hash(), private.request_job_id_claim() to anon, authenticated, service_role;

alter table public.local_training_jobs enable row level security;
drop policy if exists "Allow anon to select jobs with valid token" on public.local_training_jobs;
drop policy if exists "Allow metrics updates with valid job_token" on public.local_training_jobs;
drop policy if exists "local_training_jobs_full_access" on public.local_training_jobs;
drop policy if exists agent_select on public.local_training_jobs;
drop policy if exists agent_update on public.local_training_jobs;
drop policy if exists owner_cancel on public.local_training_jobs;
create policy agent_select on public.local_training_jobs for select to anon
  using ((job_token_hash = (select private.request_job_token_hash()) and coalesce(job_token_expires_at,'infinity') > now())
      or id = (select private.request_job_id_claim()));
create policy agent_update on public.local_training_jobs for update to anon
  using ((job_token_hash = (select private.request_job_token_hash()) and coalesce(job_token_expires_at,'infinity') > now())
      or id = (select private.request_job_id_claim()))
  with check ((job_token_hash = (select private.request_job_token_hash()) and coalesce(job_token_expires_at,'infinity') > now())
      or id = (select private.request_job_id_claim()));
-- the signed-in owner may cancel; inserts are done by the server with service_role
create policy owner_cancel on public.local_training_jobs for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- Column grants: on classic projects anon already holds ALL on the table, so a GRANT UPDATE(col) alone restricts nothing.
revoke all on public.local_training_jobs from anon, authenticated, public;
grant select (id, user_id, status, progress, model_name, model_url, error_message, result_note, failure_stage, started_at, completed_at, updated_at, heartbeat_at, upload_attempt)
  on public.local_training_jobs to anon;
grant update (status, progress, model_url, error_message, result_note, failure_stage, started_at, upload_attempt,
              current_step, current_epoch, total_steps, total_epochs, loss, eval_loss, learning_rate, grad_norm, samples_per_second,
              gpu_memory_allocated_gb, gpu_memory_reserved_gb, elapsed_seconds, remaining_seconds)
  on public.local_training_jobs to anon;
grant select (id,user_id,model_name,base_model,dataset_path,status,config,metadata,error_message,result_note,failure_stage,model_url,progress,current_step,current_epoch,
  total_steps,total_epochs,loss,eval_loss,learning_rate,grad_norm,samples_per_second,gpu_memory_allocated_gb,gpu_memory_reserved_gb,elapsed_seconds,
  remaining_seconds,started_at,completed_at,created_at,updated_at,heartbeat_at,upload_attempt) on public.local_training_jobs to authenticated;
grant update (status, completed_at, updated_at) on public.local_training_jobs to authenticated;   -- cancel from the UI
grant all on public.local_training_jobs to service_role;

-- State machine. PTxyz SQLSTATEs are turned into HTTP xyz by PostgREST.
create or replace function private.guard_training_job() returns trigger
language plpgsql set search_path = '' as $$
declare
  agent boolean := current_user in ('anon','training_agent');
  terminal constant text[] := array['completed','failed','cancelled'];
  url text := new.model_url;
begin
  if agent and (new.id, new.user_id, new.job_token_hash, new.job_token_expires_at, new.config, new.created_at)
     is distinct from (old.id, old.user_id, old.job_token_hash, old.job_token_expires_at, old.config, old.created_at) then
    raise sqlstate 'PT403' using message = 'immutable column', detail = 'identity columns cannot be changed by the agent';
  end if;
  if agent and url is not null and url is distinct from old.model_url
     and not exists (select from private.model_hosts h where pg_catalog.starts_with(url, h.origin || '/')) then
    raise exception using errcode = '23514', message = 'model_url is not on an allowed Hub';
  end if;
  if agent and old.status = any(terminal) then
    -- replaying the very same terminal write is a no-op (idempotent retry after a lost response)
    if new.status = old.status and url is not distinct from old.model_url
       and (old.status <> 'failed' or (new.error_message, new.failure_stage) is not distinct from (old.error_message, old.failure_stage)) then
      return old;
    end if;
    if old.status = 'completed' and new.status = 'completed' and old.model_url is null and url is not null then
      -- a finished training may still get its model_url, once, and nothing else with it
      new := old; new.model_url := url; new.updated_at := now(); new.heartbeat_at := now();
      return new;
    end if;
    if not (old.status = 'failed' and coalesce(old.failure_stage, 'training') in ('publish', 'lost')) then
      raise sqlstate 'PT409' using message = 'job is in a terminal state',
        detail = json_build_object('job_id', old.id, 'status', old.status, 'model_url', old.model_url)::text,
        hint = 'terminal states are immutable';
    end if;
  end if;
  if not agent and old.status = 'completed' and new.status <> 'completed'
     and coalesce(current_setting('app.allow_reopen', true),'') <> 'on' then
    raise sqlstate 'PT409' using message = 'completed jobs cannot be reopened';
  end if;
  if current_user = 'authenticated' and new.status is distinct from old.status
     and (new.status <> 'cancelled' or old.status = any(terminal)) then
    raise sqlstate 'PT409' using message = format('a user may only cancel an active job (%s -> %s)', old.status, new.status);
  end if;
  if agent and new.status <> old.status and not (case
        when old.status in ('pending','queued','paused') then new.status = any('{running,completed,failed}')
        when old.status = 'running'   then new.status = any('{uploading,completed,failed,paused}')
        when old.status = 'uploading' then new.status = any('{completed,failed,running}')
        when old.status = 'failed'    then new.status = any('{running,completed}')      -- only reached through the door above
        else false end) then
    raise sqlstate 'PT409' using message = format('illegal transition %s -> %s', old.status, new.status),
      detail = json_build_object('from', old.status, 'to', new.status)::text;
  end if;
  if agent and old.progress is not null and (new.progress is null or new.progress < old.progress) then
    raise sqlstate 'PT409' using message = 'progress must not decrease',
      detail = json_build_object('from', old.progress, 'to', new.progress)::text;
  end if;
  if new.status = 'completed' and old.status <> 'completed' then
    if new.progress is distinct from 100 then
      raise exception using errcode = '23514', message = 'completed requires progress = 100';
    end if;
    new.completed_at := now();          -- server clock, the pod's is not trusted
    new.error_message := null;
    new.failure_stage := null;
  elsif new.status in ('failed','cancelled') and old.status is distinct from new.status then
    new.completed_at := now();
    if agent then new.failure_stage := coalesce(new.failure_stage, 'training'); end if;
  elsif agent then
    new.completed_at := old.completed_at;
  end if;
  new.updated_at := now();
  if agent then new.heartbeat_at := now(); end if;
  return new;
end $$;
drop trigger if exists guard_training_job on public.local_training_jobs;
create trigger guard_training_job before update on public.local_training_jobs for each row execute function private.guard_training_job();

-- Audit trail
create table if not exists public.model_upload_events (
  id           bigint generated always as identity primary key,
  job_id       uuid not null references public.local_training_jobs(id) on delete cascade,
  event_key    text not null check (char_length(event_key) between 1 and 200),   -- client-chosen, makes retries idempotent
  event        text not null check (event in ('started','gate_refused','repo_created','content_uploaded','committed','verified','recorded',
                                              'record_rejected','failed','rolled_back','released','status_changed')),
  source       text not null default 'agent' check (source in ('agent','trigger')),
  repo_id      text check (char_length(repo_id) <= 200),
  commit_sha   text check (commit_sha ~ '^[0-9a-f]{40}$'),
  model_url    text check (char_length(model_url) <= 512),
  bytes        bigint check (bytes >= 0),
  files        int check (files >= 0),
  attempt      int check (attempt between 0 and 1000),
  from_status  text, to_status text,
  detail       jsonb not null default '{}'::jsonb check (pg_column_size(detail) <= 16384),
  actor_role   text not null default current_user,
  request_id   text default (nullif(current_setting('request.headers', true),'')::json ->> 'x-request-id'),
  created_at   timestamptz not null default now(),
  unique (job_id, event_key)
);
create index if not exists model_upload_events_job_idx on public.model_upload_events(job_id, id);
alter table public.model_upload_events enable row level security;
revoke all on public.model_upload_events from anon, authenticated, public;
-- explicit grants: since 2026-10-30 Supabase no longer exposes new tables by itself, not even to service_role
grant insert (job_id,event_key,event,repo_id,commit_sha,model_url,bytes,files,attempt,detail),
      select (id,job_id,event_key,event,source,repo_id,commit_sha,model_url,bytes,files,attempt,from_status,to_status,detail,created_at)
  on public.model_upload_events to anon;
grant select on public.model_upload_events to authenticated;
grant all on public.model_upload_events to service_role;
drop policy if exists agent_insert on public.model_upload_events;
drop policy if exists agent_read_own on public.model_upload_events;
drop policy if exists owner_read on public.model_upload_events;
create policy agent_insert on public.model_upload_events for insert to anon
  with check (source = 'agent' and exists (select 1 from public.local_training_jobs j where j.id = job_id));   -- j is itself RLS-filtered
create policy agent_read_own on public.model_upload_events for select to anon
  using (exists (select 1 from public.local_training_jobs j where j.id = job_id));
create policy owner_read on public.model_upload_events for select to authenticated
  using (exists (select 1 from public.local_training_jobs j where j.id = job_id and j.user_id = (select auth.uid())));

create or replace function private.audit_training_job() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if new.status is distinct from old.status or new.model_url is distinct from old.model_url then
    insert into public.model_upload_events(job_id,event_key,event,source,model_url,from_status,to_status,actor_role,detail)
    values (new.id, 'trg:'||txid_current()||':'||clock_timestamp()::text, 'status_changed','trigger', new.model_url, old.status, new.status,
            coalesce(nullif(current_setting('role', true),'none'), session_user),
            jsonb_build_object('progress', new.progress));
  end if;
  return null;
end $$;
drop trigger if exists audit_training_job on public.local_training_jobs;
create trigger audit_training_job after update on public.local_training_jobs for each row execute function private.audit_training_job();
create or replace function private.no_rewrite() returns trigger language plpgsql set search_path='' as
$$ begin raise sqlstate 'PT405' using message = 'model_upload_events is append-only'; end $$;
drop trigger if exists model_upload_events_append_only on public.model_upload_events;
create trigger model_upload_events_append_only before update or delete on public.model_upload_events
  for each row when (current_user not in ('postgres')) execute function private.no_rewrite();
commit;
