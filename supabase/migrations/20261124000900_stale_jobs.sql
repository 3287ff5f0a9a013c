-- Jobs whose pod vanished can be marked as failed, stage `lost`.
-- Without it: the row of a pod that died says "running" for ever.

begin;

create or replace function public.mark_stale_jobs(silent_for interval default '10 minutes') returns setof uuid
language plpgsql security definer set search_path = '' as $$
begin
  if silent_for is null or silent_for < interval '2 minutes' then
    raise exception using errcode = '22023', message = 'mark_stale_jobs needs two minutes at least',
      hint = 'A pod that works speaks every 30 seconds, a slow network not counted.';
  end if;
  -- A pod that never spoke is left alone: nobody knows how often it would. Whatever else moves the row is a sign of life.
  return query
    update public.local_training_jobs set
      status = 'failed',
      failure_stage = 'lost',
      error_message = pg_catalog.format('The pod was last heard of at %s UTC. If it comes back, it completes this job.',
        pg_catalog.to_char(heartbeat_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'))
    where id in (
      select id from public.local_training_jobs
      where status in ('running', 'uploading')
        and greatest(heartbeat_at, updated_at) < pg_catalog.now() - silent_for and heartbeat_at is not null
      for update skip locked)
    returning id;
end $$;
revoke execute on function public.mark_stale_jobs(interval) from public, anon, authenticated;
grant execute on function public.mark_stale_jobs(interval) to service_role;

-- Once a minute, where pg_cron is enabled (Database → Extensions). Else call the function from the platform's server.
-- select cron.schedule('mark stale jobs', '* * * * *', $cron$ select public.mark_stale_jobs('10 minutes') $cron$);

commit;
