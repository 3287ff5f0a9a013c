"""Loopback stand-ins for the services the agent talks to; they enforce the protocols, for demo and tests."""
