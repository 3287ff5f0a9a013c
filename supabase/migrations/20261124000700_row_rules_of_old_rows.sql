-- The rows from before are checked against the rules.
-- Without it: rows with a status or a progress that nobody knows may be hidden among the old ones.
-- A rule that some row breaks stays in force for what is written from now on; a warning tells how to find the row.

do $$
declare
  rule record;
begin
  for rule in
    select conname, pg_get_expr(conbin, conrelid) as holds from pg_constraint
    where conrelid = 'public.local_training_jobs'::regclass and not convalidated
      and conname in ('ltj_status_chk', 'ltj_progress_chk', 'ltj_stage_chk')
  loop
    begin
      execute format('alter table public.local_training_jobs validate constraint %I', rule.conname);
    exception when check_violation then
      raise warning '% does not hold for every row; look at: select id from public.local_training_jobs where not %',
        rule.conname, rule.holds;
    end;
  end loop;
end $$;
