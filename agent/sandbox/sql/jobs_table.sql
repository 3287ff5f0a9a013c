-- The jobs table as the app ships it today, before any hardening
create table public.local_training_jobs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users(id) on delete cascade,
  model_name text not null, base_model text, dataset_path text,
  status text not null,
  job_token text,
  config jsonb, metadata jsonb default '{}'::jsonb,
  error_message text, model_url text,
  progress double precision,
  current_step int, current_epoch double precision, total_steps int, total_epochs int,
  loss double precision, eval_loss double precision, learning_rate double precision, grad_norm double precision,
  samples_per_second double precision, gpu_memory_allocated_gb double precision, gpu_memory_reserved_gb double precision,
  elapsed_seconds int, remaining_seconds int,
  started_at timestamptz, completed_at timestamptz,
  created_at timestamptz default now(), updated_at timestamptz default now()
);
alter table local_training_jobs enable row level security;
create policy "Users can view their own jobs" on local_training_jobs for select using (auth.uid() = user_id);
