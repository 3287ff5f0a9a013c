"""What a verification finds, and what mends it: commands that can be pasted, with the caller's own ids."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.card import Manifest
    from agent.hub.repo import Entry, Repo
    from agent.verification.past import Past

_TAG = re.compile(r"job-[0-9a-f]{8}")


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong with a repo, or worth knowing; one that `refuses` fails the verification."""

    path: str
    found: str
    cure: str
    refuses: bool = True

    @property
    def sentence(self) -> str:
        """The path and what was found, on one line that is safe to print: a repo may hold any name."""
        return printable(f"{self.path} {self.found}".strip())

    @property
    def verdict(self) -> str:
        """`refused` or `note`."""
        return "refused" if self.refuses else "note"

    def as_json(self) -> dict[str, str]:
        """The finding as callers read it."""
        return {"path": self.path, "verdict": self.verdict, "found": self.found, "cure": self.cure}


def printable(text: str) -> str:
    """The text without anything that a terminal would act on."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


class Cures:
    """What to do about the flaws of one revision.

    Args:
        repo: the repo; its branch is the revision as it was asked for.
        oid: the commit that was looked at.
        tree: its files.
        past: how it came to be.
        manifest: whose publication it should be, if that is known.
    """

    def __init__(
        self, repo: Repo, oid: str, tree: Mapping[str, Entry], past: Past, manifest: Manifest | None
    ) -> None:
        self._repo, self._oid, self._tree = repo, oid, tree
        self._past, self._manifest = past, manifest

    def restore(self, *paths: str) -> str:
        """How files become what was published: by a rollback, if one of them was another one then."""
        oid, tree = self._published
        if oid and any(tree.get(path) != self._tree.get(path) for path in paths):
            command = ["training-agent", "rollback", self._repo.repo_id, "--to", oid, *self._on_branch]
            return f"Bring back what was published: `{shlex.join(command)}`"
        return f"Do not use it. {self.publish_again()}; if that repeats, report commit {self._oid} to the Hub"

    def restore_all(self, is_ours: Callable[[str], bool]) -> str:
        """The same for a flaw that may be the fault of any file: a shard that is gone, or one too many."""
        everything = self._tree.keys() | self._published[1].keys()
        return self.restore(*filter(is_ours, everything))

    def publish_again(self, *options: str) -> str:
        """How the output folder is published once more, under a job of its own."""
        command = shlex.join(["finalize", "--repo", self._repo.repo_id, *options, *self._on_branch])
        command = f'AGENT_ALLOW_STALE=true training-agent {command} --job-id "$(uuidgen)"'
        return f"Publish the output folder again: `{command}`"

    def name_base(self) -> str:
        """How a base model is named that a reader finds."""
        again = self.publish_again("--base-model", "NAMESPACE/NAME")
        return f"Put the base model on the Hub under that id, or name one that is there. {again}"

    def delete(self, path: str) -> str:
        """How a file that does not belong there is removed."""
        command = shlex.join(["hf", "repos", "delete-files", self._repo.repo_id, path, *self._on_branch])
        return f"Delete it: `{command}`"

    def add(self, path: str) -> str:
        """How a folder is compared that is not all that was published."""
        added = "AGENT_FILES, AGENT_INCLUDE, EVALUATION_REPORT, BENCHMARK_REPORT or SAMPLES_DIR"
        return f"If {added} added it, set that as it was for finalize. Else: {self.restore(path)}"

    def edit(self, path: str) -> str:
        """Where a file is corrected by hand."""
        page = f"{self._repo.client.endpoint}/{self._repo.repo_id}/edit/{self._repo.branch}/{path}"
        return f"Correct it at {page}"

    def against_folder(self) -> str:
        """How a repo without a manifest is proven."""
        at = [] if self._repo.branch == "main" else ["--revision", self._repo.branch]
        command = shlex.join(["training-agent", "verify", self._repo.repo_id, "--against", "DIR", *at])
        return f"Compare with the folder it came from: `{command}`"

    def look_at(self, tag: str) -> str:
        """How the revision is verified that another manifest belongs to."""
        return f"Verify its own revision: `training-agent verify {self._repo.repo_id} --revision {tag}`"

    @property
    def _on_branch(self) -> list[str]:
        """Which branch to change; nothing is said of main, and a commit or a tag of ours is none."""
        branch = self._repo.branch
        fixed = branch == self._oid or _TAG.fullmatch(branch)
        return [] if fixed or branch == "main" else ["--revision", branch]

    @cached_property
    def _published(self) -> tuple[str | None, Mapping[str, Entry]]:
        """The commit that made this publication, if it can be found, and its files."""
        try:
            found = self._past.publication(self._manifest) if self._manifest else None
            return (found.oid, self._repo.tree(found.oid)) if found else (None, {})
        except AgentError:  # a cure that cannot be looked up must not take the place of what was found
            return None, {}
