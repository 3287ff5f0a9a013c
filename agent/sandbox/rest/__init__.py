"""An embedded Supabase REST service over a real PostgreSQL: gateway and PostgREST in one process.

It is PostgREST for tables, views and functions: filters, select, order, ranges, counts, upserts, preferences,
profiles, errors. Not here, and answered with an error of PostgREST's own: embedded resources, aggregates,
PUT, OPTIONS, the description of the API at the root, and every body or answer that is not JSON.
"""

from agent.sandbox.rest.server import Rest

__all__ = ["Rest"]
