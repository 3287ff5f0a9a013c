"""The page of a published model: whether the Hub takes it, it is this model's, and its base can be found."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agent import card
from agent.card.about import about
from agent.hub.download import NotServedError
from agent.material import README
from agent.parse import parse_json
from agent.retry import READ, RemoteFailure
from agent.verification.flaws import Flaw

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from agent.card import Manifest
    from agent.card.about import About
    from agent.hub.download import Content
    from agent.hub.repo import Entry, Repo
    from agent.verification.flaws import Cures
    from agent.verification.past import Past

_BAD_REQUEST = 400
_MOST_EARLIER = 5  # models of one job whose pages are compared


class PageCheck:
    """The checks of one revision's page.

    Args:
        repo: the repo.
        content: hands out the files.
        tree: the files as they are listed.
        manifest: whose publication the page should be of; None if that is not known.
        past: how the revision came to be.
        cures: what to do.
    """

    def __init__(
        self,
        repo: Repo,
        content: Content,
        tree: Mapping[str, Entry],
        manifest: Manifest | None,
        *,
        past: Past,
        cures: Cures,
    ) -> None:
        self._repo, self._content, self._tree = repo, content, tree
        self._manifest, self._past, self._cures = manifest, past, cures

    def check(self, adapter_configs: Collection[str], *, edited: bool) -> Iterator[Flaw]:
        """Find what is wrong with the page.

        Args:
            adapter_configs: the adapter_config.json of the model, and of adapters beside it.
            edited: it is not the README that the manifest names.

        Raises:
            HubUnreachableError, HubAuthError, HubRefusedError: as for every call.
        """
        named_by = {path: self._base_of_adapter(path) for path in adapter_configs}
        if README in self._tree:
            try:
                content = self._content.document(self._tree[README])
            except NotServedError as error:
                yield Flaw(README, f"is listed, but cannot be read: {error.message}", self._restore)
            else:
                named_by[README], flaws = self._page(content, edited=edited)
                yield from flaws
        else:
            yield Flaw(README, "missing: the model has no page", self._restore)
        told: set[str] = set()
        for path, bases in named_by.items():
            for base in (one for one in bases if one not in told):
                told.add(base)
                said = self._unknown(base)
                if said:
                    # What lies in a folder is published as it is: finalize names no base there.
                    found = f"names the base model {base!r}: {said}"
                    yield Flaw(path, found, self._cures.name_base(), refuses="/" not in path)

    @property
    def _restore(self) -> str:
        return self._cures.restore(README)

    def _base_of_adapter(self, path: str) -> list[str]:
        """None if there is no such name in it, or it cannot be read, which the checks of the files tell."""
        try:
            found = parse_json(self._content.document(self._tree[path]))
        except (NotServedError, ValueError):
            return []
        base = found.get(card.BASE_KEY) if isinstance(found, dict) else None
        return [base] if isinstance(base, str) else []

    def _page(self, content: bytes, *, edited: bool) -> tuple[list[str], list[Flaw]]:
        """The base models that the page names, and what is wrong with it."""
        text = content.decode(errors="replace")
        flaws = list(self._section(content, about(text), edited=edited))
        refused = self._refusal(text)
        if refused:
            said = f"has metadata that the Hub refuses: {refused}"
            return [], [*flaws, Flaw(README, said, self._cures.edit(README))]
        metadata = card.read_metadata(text)[0]
        if not metadata and (edited or self._manifest is None):
            flaws.append(Flaw(README, "has no metadata at its head", self._cures.edit(README)))
        return card.named_bases(metadata), flaws

    def _refusal(self, text: str) -> str | None:
        """The Hub's words about metadata that it does not take; it is asked as before a commit."""
        document = {"content": text, "repoType": "model"}
        try:
            self._repo.client.attempts(READ, lambda: self._repo.client.post("/api/validate-yaml", document))
        except RemoteFailure as failure:
            if failure.status != _BAD_REQUEST:
                raise self._repo.client.explain(failure, f"let the Hub judge {README}") from failure
            return " ".join(failure.words.split())
        return None

    def _unknown(self, base: str) -> str | None:
        if not card.is_model_id(base):
            return "a path, which no reader can follow"
        if not self._repo.client.model_exists(base):
            return "it is not on the Hub, or not for this token to see"
        return None

    def _section(self, content: bytes, said: About | None, *, edited: bool) -> Iterator[Flaw]:
        """Whether the page is this publication's: what a person wrote around our section stays theirs."""
        manifest = self._manifest
        if manifest is None:
            return
        stale = None
        if said is None:
            stale = "it is not the one that was published, and has no section of ours"
        elif (said.job, said.tag) != (manifest.job, manifest.tag):
            stale = f"it speaks of job {said.job} at {said.tag}; job {manifest.job} made this model"
        elif edited:
            stale = self._of_earlier_model(content, manifest)
        if stale:
            yield Flaw(README, f"is a stale card: {stale}", self._restore)
        elif edited:
            found = "was edited since it was published; its section is still this publication's"
            yield Flaw(README, found, "", refuses=False)

    def _of_earlier_model(self, content: bytes, manifest: Manifest) -> str | None:
        """Where else the same job published exactly this page: its trainings share job and tag."""
        sha256 = hashlib.sha256(content).hexdigest()
        for commit in self._past.other_publications(manifest)[:_MOST_EARLIER]:
            if self._repo.manifest_files(commit.oid).get(README, {}).get("sha256") == sha256:
                return f"it is that of commit {commit.oid}, another model of the same job"
        return None
