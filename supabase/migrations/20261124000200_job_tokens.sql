-- The token of a job is kept as a hash too, and a request's own token can be compared with it.
-- Without it: a row cannot be opened by its own token only.

begin;

-- The app goes on writing job_token; the hash follows. An app may as well write job_token_hash itself, or take
-- job_token out once the pod has it: the hash stays.
create or replace function private.hash_job_token() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.job_token is not null
     and (tg_op = 'INSERT' or new.job_token is distinct from old.job_token or new.job_token_hash is null) then
    new.job_token_hash := pg_catalog.sha256(pg_catalog.convert_to(new.job_token, 'UTF8'));
  end if;
  return new;
end $$;

-- Null without the header, and so equal to nothing. Shorter tokens can be guessed. Headers that are no text are none: an
-- error here would be met only where there is a row to compare with, and so tell of it.
create or replace function private.request_job_token_hash() returns bytea
language plpgsql stable set search_path = '' as $$
declare
  token text;
begin
  token := nullif(pg_catalog.current_setting('request.headers', true), '')::pg_catalog.json ->> 'x-job-token';
  if pg_catalog.length(token) between 32 and 256 then
    return pg_catalog.sha256(pg_catalog.convert_to(token, 'UTF8'));
  end if;
  return null;
exception when data_exception then
  return null;
end $$;

-- The other credential: a token that the platform signed, {"role": "anon", "job_id": "…", "exp": …}.
create or replace function private.request_job_id_claim() returns uuid
language sql stable set search_path = '' as $$
  select case when c.job_id ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then c.job_id::pg_catalog.uuid end
  from (select coalesce(nullif(pg_catalog.current_setting('request.jwt.claims', true), ''), '{}')::pg_catalog.json
    ->> 'job_id' as job_id) c
$$;

revoke execute on function private.hash_job_token(), private.request_job_token_hash(), private.request_job_id_claim()
  from public;
grant execute on function private.request_job_token_hash(), private.request_job_id_claim()
  to anon, authenticated, service_role;

select private.lock_in_turns('public.local_training_jobs');
create or replace trigger a_hash_job_token before insert or update on public.local_training_jobs
  for each row execute function private.hash_job_token();

do $$
begin
  if not exists (select from pg_constraint where conrelid = 'public.local_training_jobs'::regclass
                   and conname = 'ltj_token_hash_chk') then
    alter table public.local_training_jobs
      add constraint ltj_token_hash_chk check (job_token is null or job_token_hash is not null) not valid;
  end if;
end $$;

commit;
