-- The policies and grants as the app ships them today
grant update (current_step,current_epoch,loss,eval_loss,learning_rate,grad_norm,samples_per_second,
  gpu_memory_allocated_gb,gpu_memory_reserved_gb,elapsed_seconds,remaining_seconds,progress,updated_at,status)
  on local_training_jobs to anon, authenticated;
grant update (total_steps,status,started_at,completed_at,error_message) on local_training_jobs to anon, authenticated;
grant update (model_url) on local_training_jobs to anon, authenticated;
create policy "Allow anon to select jobs with valid token" on local_training_jobs for select to anon using (job_token is not null);
create policy "Allow metrics updates with valid job_token" on local_training_jobs for update to anon, authenticated
  using (job_token is not null) with check (job_token is not null);
