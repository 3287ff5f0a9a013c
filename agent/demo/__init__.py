"""`python -m agent demo`: the real finalize against services embedded on this machine."""
