-- Whatever was published before is published again.

begin;

select private.lock_in_turns('public.local_training_jobs');

do $$
declare
  undone record;
begin
  for undone in select statement from private.undo where step = 'realtime' order by id loop
    execute undone.statement;
  end loop;
  delete from private.undo where step = 'realtime';
end $$;

commit;
