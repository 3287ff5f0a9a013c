-- A line that pg_cron was given has to be taken back by hand: select cron.unschedule('mark stale jobs');

drop function if exists public.mark_stale_jobs(interval);
