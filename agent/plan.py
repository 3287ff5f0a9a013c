"""What a finalize would do, told before it does it: the answer to `--dry-run`, and what would be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.artifact import is_model_family

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.hub.repo import Commit, Repo, RepoState
    from agent.publication import Draft


def would_be_missing(
    expected: Collection[str], paths: Collection[str], repo: Repo, head: Commit | None
) -> list[str]:
    """Which of the expected paths the branch would not hold after a publication of `paths`."""
    missing = set(expected) - set(paths)
    if missing and head:
        from agent.hub.commit import stale_paths

        tree = repo.tree(head.oid)
        missing -= tree.keys() - set(stale_paths(repo, head, tree, set(paths), is_model_family))
    return sorted(missing)


def plan(
    draft: Draft,
    repo: Repo | None,
    state: RepoState | None,
    *,
    plots: Collection[str],
    already_published: bool,
) -> dict[str, Any]:
    """List what would be published, made, deleted and left behind.

    Args:
        draft: what the folder holds.
        repo: where to; None without a token.
        state: the repo as it is now; None without a token.
        plots: paths of those that would be drawn.
        already_published: the branch holds exactly this already.
    """
    stale: list[str] = []
    if repo and state and state.head and not already_published:
        from agent.hub.commit import stale_paths

        tree = repo.tree(state.head.oid)
        stale = stale_paths(repo, state.head, tree, draft.paths | set(plots), is_model_family)
    return {
        "publish": [{"path": file.path, "size": file.size_bytes} for file in draft.stock.files],
        "make": sorted([*draft.later, *plots]),
        "leave_out": [{"path": path, "reason": reason} for path, reason in draft.stock.left_out],
        "delete": stale,
        "creates_repo": state is not None and not state.exists,
        "already_published": already_published,
    }
