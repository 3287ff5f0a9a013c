"""What a repo holds against what was published, file by file; nothing is changed."""

from agent.verification.story import Verification, verify

__all__ = ["Verification", "verify"]
