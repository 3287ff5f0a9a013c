-- Who may move a job from which status to which: what is final stays, progress only grows, times are the server's.
-- Without it: a pod may reopen or overwrite a finished, failed or cancelled job, and point it anywhere.

begin;
set local client_min_messages = warning;  -- what exists already is no news

-- The Hubs that a row may point to. A platform with a Hub of its own adds it here; a pod cannot.
create table if not exists private.model_hosts (origin text primary key check (origin ~ '^https?://[^/[:space:]]+$'));
insert into private.model_hosts values ('https://huggingface.co') on conflict do nothing;
revoke all on private.model_hosts from public, anon, authenticated, service_role;
grant select on private.model_hosts to anon;

-- What of an address is the path on an allowed Hub; null if it is none.
create or replace function private.hub_path(url text) returns text
language sql stable set search_path = '' as $$
  select pg_catalog.substr(url, pg_catalog.length(h.origin) + 2) from private.model_hosts h
  where pg_catalog.starts_with(url, h.origin || '/') and pg_catalog.length(url) <= 512
    and pg_catalog.substr(url, pg_catalog.length(h.origin) + 1) ~ '^(/[A-Za-z0-9_~%-][A-Za-z0-9._~%-]*)+$'
  limit 1
$$;
revoke execute on function private.hub_path(text) from public;
grant execute on function private.hub_path(text) to anon;

create or replace function private.guard_training_job() returns trigger
language plpgsql set search_path = '' as $$
declare
  -- Whoever has to show a credential for the row, and is no user: anon, and roles that a platform made for its pods.
  pod constant boolean := current_user = 'anon' or current_user <> 'authenticated'
    and pg_catalog.row_security_active('public.local_training_jobs'::pg_catalog.regclass);
  final constant text[] := '{completed,failed,cancelled}';
  may_reopen constant boolean := coalesce(pg_catalog.current_setting('app.allow_reopen', true), '') = 'on';
  hub_path text;
  linked record;
  mended double precision;
  may_become text[];
begin
  -- What a row holds from before these rules would make every write to it fail.
  if old.progress not between 0 and 100 then
    mended := least(greatest(nullif(old.progress, 'NaN'), 0), 100);
    if new.progress is not distinct from old.progress then
      new.progress := mended;
    end if;
    old.progress := mended;
  end if;
  if current_user = 'authenticated' then  -- apps send times along; a browser's clock is not trusted either
    new.completed_at := old.completed_at;
    new.updated_at := old.updated_at;
  end if;
  if pod then
    if (new.id, new.user_id, new.job_token, new.job_token_hash, new.job_token_expires_at)
       is distinct from (old.id, old.user_id, old.job_token, old.job_token_hash, old.job_token_expires_at) then
      raise sqlstate 'PT403' using message = 'immutable column', detail = 'a pod does not change whose job it is';
    end if;
    if pg_catalog.length(new.error_message) > 8000 and new.error_message is distinct from old.error_message
       or pg_catalog.length(new.result_note) > 8000 and new.result_note is distinct from old.result_note then
      raise exception using errcode = '23514', message = 'error_message and result_note hold 8000 characters';
    end if;
    if new.model_url is not null and new.model_url is distinct from old.model_url then
      hub_path := private.hub_path(new.model_url);
      if hub_path is null then
        raise exception using errcode = '23514', message = 'model_url is not on an allowed Hub';
      end if;
      -- Where apps look for the model beside model_url.
      if pg_catalog.jsonb_typeof(coalesce(new.metadata, '{}')) = 'object' then
        new.metadata := coalesce(new.metadata, '{}')
          || pg_catalog.jsonb_build_object('hf_repo', pg_catalog.split_part(hub_path, '/tree/', 1));
      end if;
    end if;
    if old.status = any(final) then
      -- The very same write again means that its answer was lost: nothing happens.
      if (select pg_catalog.bool_and(wanted.value = held.value)
            from pg_catalog.jsonb_each(pg_catalog.to_jsonb(new)) wanted
            join pg_catalog.jsonb_each(pg_catalog.to_jsonb(old)) held using (key)
            where key = any(private.pod_columns())) then
        return old;
      end if;
      if old.status = 'completed' and new.status = 'completed' and old.model_url is null and new.model_url is not null then
        -- A finished job may still get its address, once, and nothing else with it.
        linked := new;
        new := old;
        new.model_url := linked.model_url;
        new.metadata := linked.metadata;
        new.result_note := null;
        new.updated_at := pg_catalog.now();
        new.heartbeat_at := pg_catalog.now();
        return new;
      end if;
      if not (old.status = 'failed' and coalesce(old.failure_stage, 'training') in ('publish', 'lost')) then
        raise sqlstate 'PT409' using message = 'job is in a terminal state',
          detail = pg_catalog.json_build_object('job_id', old.id, 'status', old.status, 'model_url', old.model_url)::text,
          hint = 'terminal states are immutable';
      end if;
    end if;
    may_become := case
      when old.status in ('pending', 'queued', 'paused') then '{running,completed,failed}'
      when old.status = 'running' then '{uploading,paused,completed,failed}'
      when old.status = 'uploading' then '{running,completed,failed}'
      when old.status = 'failed' then '{running,completed}'  -- only publish and lost come this far
      else '{}' end;
    if new.status <> old.status and new.status <> all(may_become) then
      raise sqlstate 'PT409' using message = pg_catalog.format('illegal transition %s -> %s', old.status, new.status),
        detail = pg_catalog.json_build_object('from', old.status, 'to', new.status)::text;
    end if;
    if old.progress is not null and (new.progress is null or new.progress < old.progress) then
      raise sqlstate 'PT409' using message = 'progress must not decrease',
        detail = pg_catalog.json_build_object('from', old.progress, 'to', new.progress)::text;
    end if;
    if new.status = 'completed' and new.progress is distinct from 100 then
      raise exception using errcode = '23514', message = 'completed requires progress = 100';
    end if;
    if new.status = 'failed' then
      new.failure_stage := coalesce(new.failure_stage, 'training');
      if new.failure_stage = 'lost' and old.failure_stage is distinct from 'lost' then
        raise exception using errcode = '23514', message = 'a pod that speaks is not lost';
      end if;
    end if;
    new.completed_at := old.completed_at;  -- times are the server's: a pod's clock is not trusted
    new.updated_at := pg_catalog.now();
    new.heartbeat_at := pg_catalog.now();
  elsif new.status is distinct from old.status then
    new.updated_at := pg_catalog.now();
    if current_user = 'authenticated' and (new.status is distinct from 'cancelled' or old.status = any(final)) then
      raise sqlstate 'PT409'
        using message = pg_catalog.format('a user may only cancel an active job (%s -> %s)', old.status, new.status);
    end if;
    if old.status = 'completed' and not may_reopen then
      raise sqlstate 'PT409' using message = 'completed jobs cannot be reopened';
    end if;
    if old.status = 'cancelled' and new.status in ('completed', 'failed') and not may_reopen then
      raise sqlstate 'PT409' using message = 'a cancelled job stays cancelled';
    end if;
  elsif current_user = 'service_role' then
    new.updated_at := pg_catalog.now();  -- a sign of life that the platform passes on
  end if;

  if new.status is distinct from old.status then
    if new.status = 'completed' then
      new.progress := 100;
      new.error_message := null;
    end if;
    if new.status <> all(final) then
      new.completed_at := null;
      if not pod and old.status = any(final) then
        new.heartbeat_at := null;  -- the pod that starts now has not spoken yet
      end if;
    elsif new.completed_at is not distinct from old.completed_at then
      new.completed_at := pg_catalog.now();
    end if;
  end if;
  if new.status is distinct from 'failed' and new.failure_stage is not distinct from old.failure_stage then
    new.failure_stage := null;  -- also one that was left while these rules were not in force
  end if;
  return new;
end $$;
revoke execute on function private.guard_training_job() from public;

select private.lock_in_turns('public.local_training_jobs');
create or replace trigger guard_training_job before update on public.local_training_jobs
  for each row execute function private.guard_training_job();

-- NOT VALID: rows from before are looked at by the next migration, without anybody waiting for it.
do $$
begin
  if not exists (select from pg_constraint where conrelid = 'public.local_training_jobs'::regclass
                   and conname = 'ltj_status_chk') then
    alter table public.local_training_jobs
      add constraint ltj_status_chk check (status in
        ('pending', 'queued', 'running', 'paused', 'uploading', 'completed', 'failed', 'cancelled')) not valid,
      add constraint ltj_progress_chk check (progress is null or (progress >= 0 and progress <= 100)) not valid,
      add constraint ltj_stage_chk check (failure_stage is null
        or status = 'failed' and failure_stage in ('training', 'publish', 'lost')) not valid;
  end if;
end $$;

commit;
