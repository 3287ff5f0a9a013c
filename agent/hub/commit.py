"""One atomic commit that replaces the model: exactly one, whatever becomes of the answers.

Every round looks at the branch first. A commit whose answer was lost is found by its Finalize-Id;
a branch that moved is answered by new operations on the new head.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from agent.errors import HubRefusedError
from agent.hub.client import NOT_FOUND
from agent.hub.files import MANIFEST
from agent.log import get_logger
from agent.retry import COMMIT, RemoteFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.hub.files import Message, Stored
    from agent.hub.repo import Commit, Repo

MOVED = 412
_CONTENT_GONE = "file that does not exist"  # of the Hub's words about a commit whose content it lost
_CARD_REFUSED = "Invalid metadata in README.md"  # of the library's, which asks the Hub before it commits


class ContentGoneError(HubRefusedError):
    """The Hub does not hold the content that the commit names; sent again, it may be committed."""


class CardRefusedError(HubRefusedError):
    """The Hub does not take the metadata of the card; with another one, it may be committed."""


def stale_paths(
    repo: Repo,
    head: Commit,
    tree: Iterable[str],
    new_paths: set[str],
    is_model_file: Callable[[str], bool],
) -> list[str]:
    """Name the files of the branch's head that the new model replaces or that would shadow it.

    These are the files our last publication named, and every file a loader would take for part of
    the model. README prose and other people's files are never among them.
    """
    tree = set(tree)
    named = repo.manifest_files(head.oid) if MANIFEST in tree else {}
    return sorted(
        path for path in tree if path not in new_paths and (path in named or is_model_file(path))
    )  # fmt: skip


def replace_model(
    repo: Repo,
    *,
    head: Commit,
    tree: Iterable[str],
    stored: Sequence[Stored],
    message: Message,
    is_model_file: Callable[[str], bool],
) -> str:
    """Commit the stored files in place of the previous model and return the commit's oid.

    A lost answer is never repeated blindly: the branch is searched for our Finalize-Id first.

    Args:
        repo: the branch to commit to.
        head: its newest commit as we know it; the commit is conditional on it.
        tree: the files of that head.
        stored: all files of the publication, in the Hub's storage already.
        message: title and trailers.
        is_model_file: tells files that would shadow the model.

    Raises:
        HubUnreachableError: the outcome is unknown; the next run finds out.
        ContentGoneError: the Hub lost content meanwhile; nothing changed.
        CardRefusedError: the Hub does not take the card's metadata; nothing changed.
        HubRefusedError, HubAuthError: the Hub said no; nothing changed.
    """
    known: tuple[Commit, Iterable[str]] | None = (head, tree)
    new_paths = {one.path for one in stored}

    def attempt() -> str:
        nonlocal known
        if known is None:
            history = repo.commits()
            since = takewhile(lambda one: one.oid != head.oid, history)
            arrived = next((one for one in since if one.finalize_id == message.finalize_id), None)
            if arrived:
                get_logger().info("the commit had arrived", commit=arrived.oid)
                return arrived.oid
            if not history:
                raise RemoteFailure(f"the branch {repo.branch} is gone", status=NOT_FOUND)
            known = (history[0], repo.tree(history[0].oid))
        parent, paths = known
        known = None  # whatever happens now, the next round looks again
        stale = stale_paths(repo, parent, paths, new_paths, is_model_file)
        if stale:
            get_logger().info("replacing files of the previous model", files=stale)
        try:
            return send(repo, parent, stored, stale, message)
        except Exception as error:
            if status_of(error) == MOVED:
                raise RemoteFailure("the branch moved while we were committing", status=None) from error
            raise

    try:
        return repo.client.ask(COMMIT, f"commit to {repo.repo_id}", attempt)
    except HubRefusedError as error:
        raise _as_what_it_is(error) from error


def _as_what_it_is(error: HubRefusedError) -> HubRefusedError:
    for words, kind in ((_CONTENT_GONE, ContentGoneError), (_CARD_REFUSED, CardRefusedError)):
        if words in error.message:
            return kind(error.message, hint=error.hint)
    return error


def send(repo: Repo, parent: Commit, stored: Sequence[Stored], stale: Sequence[str], message: Message) -> str:
    """Send one commit, conditional on its parent; whether a lost answer acted, the caller finds out."""
    operations = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in stale]
    info = repo.client.api.create_commit(
        repo.repo_id,
        [*operations, *(_addition(one) for one in stored)],
        commit_message=message.title,
        commit_description=message.description,
        revision=repo.branch,
        parent_commit=parent.oid,
    )
    return str(info.oid)


def _addition(one: Stored) -> CommitOperationAdd:
    """An operation for content that storage already has.

    The only place that sets huggingface_hub's private marks, so that it neither reads, uploads nor
    drops anything: a stale `_remote_oid` or `_should_ignore` would leave a file out without a word.
    Guarded by a contract test against the real client.
    """
    operation = CommitOperationAdd(path_in_repo=one.path, path_or_fileobj=one.blob or b"")
    operation._should_ignore = False  # noqa: SLF001
    operation._remote_oid = None  # noqa: SLF001
    if one.blob is not None:
        operation._upload_mode = "regular"  # noqa: SLF001
    else:
        operation._upload_mode = "lfs"  # noqa: SLF001
        operation.upload_info.size = one.size_bytes
        operation.upload_info.sha256 = bytes.fromhex(one.sha256)
    operation._is_uploaded = True  # noqa: SLF001
    return operation


def status_of(error: Exception) -> int | None:
    """The status of the answer that the library made an exception of."""
    return getattr(getattr(error, "response", None), "status_code", None)
