-- Minimal Supabase-like bootstrap (roles, auth.uid(), default privileges as on hosted projects)
-- Roles belong to the cluster, everything else here to one database: a second database finds them made.
do $$ begin create role anon nologin noinherit; exception when duplicate_object then null; end $$;
do $$ begin create role authenticated nologin noinherit; exception when duplicate_object then null; end $$;
do $$ begin create role service_role nologin noinherit bypassrls; exception when duplicate_object then null; end $$;
do $$ begin create role authenticator noinherit login; exception when duplicate_object then null; end $$;
grant anon, authenticated, service_role to authenticator;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
create schema auth;
create table auth.users (id uuid primary key default gen_random_uuid(), email text);
create function auth.jwt() returns jsonb language sql stable as
$$ select coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb $$;
create function auth.uid() returns uuid language sql stable as
$$ select nullif(auth.jwt()->>'sub','')::uuid $$;
grant usage on schema auth to anon, authenticated, service_role;
grant execute on all functions in schema auth to anon, authenticated, service_role;
grant usage on schema public to anon, authenticated, service_role;
-- Who owns a hosted project's objects and runs its migrations: no superuser, but past row level security.
do $$ begin create role project_owner login bypassrls createrole; exception when duplicate_object then null; end $$;
grant anon, authenticated, service_role to project_owner;
grant all on schema public to project_owner;
grant usage on schema auth to project_owner;
grant select, references on auth.users to project_owner;
do $$ begin execute format('grant create on database %I to project_owner', current_database()); end $$;
-- what hosted Supabase does (classic projects): everything in public is granted to the API roles
alter default privileges for role project_owner in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role project_owner in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges for role project_owner in schema public grant all on sequences to anon, authenticated, service_role;
create publication supabase_realtime;
alter publication supabase_realtime owner to project_owner;
set role project_owner;  -- for what follows in this session
