"""One commit of a repo, looked at from all sides: its files, its structure, its page, its bytes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agent import card
from agent.artifact import is_model_family, names
from agent.hub import verify
from agent.hub.download import Content, NotServedError
from agent.hub.files import MANIFEST
from agent.material import README
from agent.publication import ADAPTER_CONFIG
from agent.verification.flaws import Cures, Flaw
from agent.verification.outline import check_outline
from agent.verification.page import PageCheck
from agent.verification.past import Past
from agent.verification.readback import read_back
from agent.verification.witness import Folder, Kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.card import Listed, Manifest
    from agent.hub.repo import Entry, Repo

# Kinds whose weights transformers loads, which looks for config.json first.
_OF_TRANSFORMERS = {"full", "sharded", "merged"}
_CONFIG = "config.json"


class Examination:
    """What is found of one commit; everything is asked for by its oid.

    Args:
        repo: the repo.
        oid: the commit.
        witness: the folder, or the manifest, that it is compared with; without one its own manifest.

    Attributes:
        tree: its files as the Hub lists them.
        content: its files as the Hub hands them out.
        flaws: what was found so far.
    """

    def __init__(self, repo: Repo, oid: str, witness: Folder | Kept | None) -> None:
        self._repo = repo
        self._folder = witness if isinstance(witness, Folder) else None
        self._kept = witness if isinstance(witness, Kept) else None
        self.flaws: list[Flaw] = []
        self.content = Content(repo, oid)
        self.tree: dict[str, Entry] = repo.tree(oid)
        self._manifest, self._no_manifest = self._read_manifest()
        self._past = Past(repo, oid)
        self._cures = Cures(repo, oid, self.tree, self._past, self._manifest)
        self._claims: dict[str, Listed] = (
            {one.path: one for one in self._manifest.files} if self._manifest else {}
        )
        self._expected = self._claims.keys() | (self._folder.paths if self._folder else set())
        self._edited = False

    def compare(self) -> None:
        """Compare what the Hub lists with what the witness says; no byte of a large file is read."""
        self.flaws += self._of_manifest()
        for path, said in self._contradictions():
            if path == README:
                self._edited = True  # what that means the check of the page tells, also if it is gone
            else:
                self._refuse(path, said)
        if self._folder:
            self._compare_folder(self._folder)
        if self._expected:
            known = self._expected | {MANIFEST}
            for path in (path for path in sorted(self.tree) if path not in known and is_model_family(path)):
                said = "is no file of this publication, and loaders would take it for one"
                self.flaws.append(Flaw(path, said, self._cures.delete(path)))

    def judge(self) -> None:
        """Look at what loaders and readers meet: headers, indexes, configs, and the page."""
        for finding in check_outline(self.content, self.tree, self._is_ours):
            cure = self._cures.restore_all(self._is_ours) if finding.refuses else finding.hint
            self.flaws.append(Flaw(finding.path, finding.message, cure, finding.refuses))
        if names.kind_of(self.tree) in _OF_TRANSFORMERS and _CONFIG not in self.tree | self._claims:
            self._note_no_config()
        page = PageCheck(
            self._repo, self.content, self.tree, self._manifest, past=self._past, cures=self._cures
        )
        configs = [path for path in sorted(self.tree) if _is_adapter_config(path) and self._is_ours(path)]
        self.flaws += page.check(configs, edited=self._edited)

    def download(self) -> None:
        """Read every file back, and compare its bytes with what is listed and with what the witness says."""
        told = {flaw.path for flaw in self.flaws if flaw.refuses} | ({README} if self._edited else set())
        claimed = {path: one.sha256 for path, one in self._claims.items() if path not in told}
        for path, said in read_back(self.content, self.tree, claimed):
            self._refuse(path, said)

    def files(self) -> list[dict[str, Any]]:
        """Every file that is there or should be, with its verdict.

        `proven`: as the witness says. `witness`: the manifest that says it. `other`: not of this publication.
        `note` and `refused` as the findings say.
        """
        verdicts = {flaw.path: flaw.verdict for flaw in sorted(self.flaws, key=lambda one: one.refuses)}
        return [
            {"path": path, "size": self._size(path), "verdict": verdicts.get(path, self._standing(path))}
            for path in sorted(self.tree.keys() | self._expected)
        ]

    def _read_manifest(self) -> tuple[Manifest | None, str]:
        """The manifest to believe, or why there is none."""
        if self._kept:
            return self._kept.manifest, ""
        if MANIFEST not in self.tree:
            return None, "missing: nobody knows what was published"
        try:
            return card.read_manifest(self.content.document(self.tree[MANIFEST])), ""
        except NotServedError as error:
            return None, f"is listed, but cannot be read: {error.message}"
        except ValueError as error:
            return None, str(error)

    def _of_manifest(self) -> Iterator[Flaw]:
        if self._manifest is None:
            refuses = MANIFEST in self.tree or self._folder is None
            yield Flaw(MANIFEST, self._no_manifest, self._cures.against_folder(), refuses)
            return
        if self._manifest.repo_id != self._repo.repo_id:
            said = f"was made for {self._manifest.repo_id}: this repo was renamed, or is a copy"
            yield Flaw(MANIFEST, said, "", refuses=False)
        entry = self.tree.get(MANIFEST)
        if self._kept and entry is None:
            yield Flaw(MANIFEST, "missing", self._cures.restore(MANIFEST))
        elif self._kept and entry and entry.oid != self._kept.blob_id:
            cure = f"{self._cures.restore(MANIFEST)}. {self._cures.look_at(self._manifest.tag)}"
            yield Flaw(MANIFEST, f"is not the one in {self._kept.path}", cure)

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        """Files that are not as the manifest says."""
        for path, one in self._claims.items():
            try:
                said = verify.contradicts(
                    self.tree.get(path),
                    size_bytes=one.size_bytes,
                    sha256=one.sha256,
                    blob_id=one.blob_id,
                    xet_hash=one.xet_hash,
                    sha256_of=lambda entry: self.content.serve(entry, lambda: None).sha256,
                )
            except NotServedError as error:
                said = f"is listed, but cannot be read: {error.message}"
            if said:
                yield path, said

    def _compare_folder(self, folder: Folder) -> None:
        told = {flaw.path for flaw in self.flaws}
        for path, said in folder.unlike(self.tree):
            if path not in told:
                self._refuse(path, said)
        if self._manifest:
            for path in folder.strangers(self._manifest):
                self.flaws.append(Flaw(path, f"is not in {folder.path}", self._cures.add(path)))
        config = self.tree.get(ADAPTER_CONFIG)
        if config is None or ADAPTER_CONFIG in told:
            return
        with suppress(NotServedError):  # the checks of the files tell that
            if folder.adapter_config_differs(self.content.document(config)):
                said = f"differs from that in {folder.path} in more than its base model"
                self._refuse(ADAPTER_CONFIG, said)

    def _note_no_config(self) -> None:
        """Other loaders need none: weights that were published without one are not refused for that."""
        if self._expected:
            said = "missing, as it was published: transformers does not load these weights"
            self.flaws.append(Flaw(_CONFIG, said, "", refuses=False))
        else:
            self._refuse(_CONFIG, "missing: transformers does not load the weights without it")

    def _refuse(self, path: str, said: str) -> None:
        self.flaws.append(Flaw(path, said, self._cures.restore(path)))

    def _is_ours(self, path: str) -> bool:
        return not self._expected or path in self._expected or is_model_family(path)

    def _standing(self, path: str) -> str:
        if path == MANIFEST and self._manifest:
            return "proven" if self._kept else "witness"
        compared = path in self._claims or (self._folder and path in self._folder.sha256s)
        return "proven" if compared else "other"

    def _size(self, path: str) -> int | None:
        return self.tree[path].size_bytes if path in self.tree else None


def _is_adapter_config(path: str) -> bool:
    return path.rpartition("/")[2] == ADAPTER_CONFIG
