"""What a finalize would do, without doing it: the answer to `--dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.artifact import is_model_family

if TYPE_CHECKING:
    from agent.hub.repo import Repo, RepoState
    from agent.publication import Draft


def plan(
    draft: Draft, repo: Repo | None, state: RepoState | None, *, already_published: bool
) -> dict[str, Any]:
    """List what would be published, made, deleted and left behind.

    Args:
        draft: what the folder holds.
        repo: where to; None without a token.
        state: the repo as it is now; None without a token.
        already_published: the branch holds exactly this already.
    """
    stale: list[str] = []
    if repo and state and state.head and not already_published:
        from agent.hub.commit import stale_paths

        tree = repo.tree(state.head.oid)
        stale = stale_paths(repo, state.head, tree, draft.paths, is_model_family)
    return {
        "publish": [{"path": file.path, "size": file.size_bytes} for file in draft.stock.files],
        "make": draft.later,
        "leave_out": [{"path": path, "reason": reason} for path, reason in draft.stock.left_out],
        "delete": stale,
        "creates_repo": state is not None and not state.exists,
        "already_published": already_published,
    }
