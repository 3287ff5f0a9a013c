"""An embedded Supabase REST service over a real PostgreSQL: gateway and PostgREST in one process."""

from agent.sandbox.rest.server import Rest

__all__ = ["Rest"]
