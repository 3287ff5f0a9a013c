-- What was added to rows stays there. agent_migrations() goes on telling that this is missing.

drop function if exists public.note_on_job(uuid, text);
