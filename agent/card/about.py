"""Whose publication a README speaks of: what our own section in it says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.card.section import BEGIN, END

_SECTION = re.compile(
    rf"^{re.escape(BEGIN)}\r?\n## About this model\r?\n(.*?)^{re.escape(END)}\r?$", re.DOTALL | re.MULTILINE
)
_JOB = re.compile(r"^\| Job \| `([0-9a-f-]{36})` \|\r?$", re.MULTILINE)
_TAG = re.compile(r"/tree/(job-[0-9a-f]{8})\)")


@dataclass(frozen=True)
class About:
    """The job and the tag that a section names; None where it does not."""

    job: str | None
    tag: str | None


def about(readme: str) -> About | None:
    """What our section says; None if there is none. Of several, which an edit can leave, the first counts."""
    section = _SECTION.search(readme)
    if section is None:
        return None
    job, tag = _JOB.search(section[1]), _TAG.search(section[1])
    return About(job and job[1], tag and tag[1])
