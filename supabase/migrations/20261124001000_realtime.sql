-- A signed-in owner sees progress live; nobody is sent a column or a row that they may not read.
-- Without it: a web app has to ask again and again, or subscribers get whole rows, tokens included.

begin;

select private.lock_in_turns('public.local_training_jobs');

do $$
begin
  if not exists (select from private.undo where step = 'realtime') then
    insert into private.undo (step, statement)
    select 'realtime', 'alter table public.local_training_jobs replica identity '
      || case relreplident when 'f' then 'full' when 'n' then 'nothing' when 'd' then 'default'
        else coalesce('using index ' || (select quote_ident(c.relname) from pg_index i join pg_class c on c.oid = i.indexrelid
          where i.indrelid = 'public.local_training_jobs'::regclass and i.indisreplident), 'nothing') end
    from pg_class where oid = 'public.local_training_jobs'::regclass;
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables)
       and not exists (select from pg_publication_tables where pubname = 'supabase_realtime'
                         and schemaname = 'public' and tablename = 'local_training_jobs') then
      insert into private.undo (step, statement)
        values ('realtime', 'alter publication supabase_realtime drop table public.local_training_jobs');
    end if;
  end if;
  if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables)
     and not exists (select from pg_publication_tables where pubname = 'supabase_realtime'
                       and schemaname = 'public' and tablename = 'local_training_jobs') then
    alter publication supabase_realtime add table public.local_training_jobs;
  end if;
end $$;

-- The row before a change travels as its key only. (What travels after it, Realtime cuts to the rows and columns that
-- the policies and rights of row_rights show to the subscriber.)
alter table public.local_training_jobs replica identity default;

commit;
