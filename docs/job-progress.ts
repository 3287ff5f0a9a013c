import type { SupabaseClient } from '@supabase/supabase-js'

const ACTIVE = ['pending', 'queued', 'running', 'paused', 'uploading'] as const

export interface Job {
  id: string
  status: (typeof ACTIVE)[number] | 'completed' | 'failed' | 'cancelled'
  progress: number | null // 0 to 100
  model_url: string | null
  error_message: string | null
  result_note: string | null
  failure_stage: 'training' | 'publish' | 'lost' | null
  heartbeat_at: string | null // when the pod was last heard of
}

// By name: `*` asks for the token as well, and is refused.
const COLUMNS = 'id, status, progress, model_url, error_message, result_note, failure_stage, heartbeat_at'

export async function readJob(db: SupabaseClient, id: string): Promise<Job | null> {
  const { data, error } = await db.from('local_training_jobs').select(COLUMNS).eq('id', id).maybeSingle<Job>()
  if (error) throw error
  return data
}

/** Shows the job now, after every change and twice a minute, until the returned function is called. */
export function watchJob(db: SupabaseClient, id: string, show: (job: Job | null) => void, fail: (e: unknown) => void) {
  let asked = 0
  let shown = 0
  const read = async () => {
    const turn = ++asked
    try {
      const job = await readJob(db, id)
      if (turn < shown) return // a later answer came first, or nobody watches any more
      shown = turn
      show(job)
    } catch (error) {
      if (turn >= shown) fail(error)
    }
  }
  // A change only rings, the row is read: a message leaves out long texts that did not change.
  const changes = { schema: 'public', table: 'local_training_jobs', filter: `id=eq.${id}` }
  const channel = db
    .channel(`job-${id}-${Math.random()}`) // a name can be subscribed to once
    .on('postgres_changes', { event: 'UPDATE', ...changes }, read)
    .on('system', {}, read) // changes flow from now on, a moment after SUBSCRIBED
    .subscribe((status) => {
      if (status === 'SUBSCRIBED') void read() // after a lost connection too: what was missed is seen
    })
  const clock = setInterval(read, 30_000) // a pod that fell silent rings no more
  void read()
  return () => {
    shown = Infinity
    clearInterval(clock)
    void db.removeChannel(channel)
  }
}

/** False: the job was over already. */
export async function cancelJob(db: SupabaseClient, id: string): Promise<boolean> {
  const jobs = db.from('local_training_jobs')
  const { data, error } = await jobs.update({ status: 'cancelled' }).eq('id', id).in('status', ACTIVE).select('id')
  if (error) throw error
  return data.length === 1
}

/** The job in a sentence. Silence grows: call it at every `show`. */
export function describe(job: Job, now = Date.now()): string {
  const percent = job.progress === null ? '' : `, ${Math.floor(job.progress)} %`
  const silent = job.heartbeat_at ? Math.floor((now - Date.parse(job.heartbeat_at)) / 60_000) : 0
  const silence = silent < 3 ? '' : ` No sign of life for ${silent} minutes.`
  const note = job.result_note ? ` ${job.result_note}` : ''
  const failed = { training: 'Training failed.', publish: 'Trained, but not published.', lost: 'The pod vanished.' }
  switch (job.status) {
    case 'pending': case 'queued': return 'Waiting for a GPU.'
    case 'running': return `Running${percent}.${silence}${note}`
    case 'uploading': return `Publishing${percent}.${silence}${note}`
    case 'paused': return `Paused${percent}.${note}`
    case 'completed': return (job.model_url ? `Completed: ${job.model_url}` : 'Completed without a model.') + note
    case 'failed': return `${failed[job.failure_stage ?? 'training']} ${job.error_message ?? ''}`.trim() + note
    case 'cancelled': return `Cancelled.${note}`
  }
}
