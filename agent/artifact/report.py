"""All checks of one artifact, and their verdict: may this be published?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.artifact.findings import WHOLE_FOLDER, Finding
from agent.artifact.limits import check_limits
from agent.artifact.numbers import Looked, check_numbers
from agent.artifact.pickles import check_pickles
from agent.artifact.secrets import scan
from agent.artifact.structure import structure
from agent.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from agent.artifact.inventory import Inventory
    from agent.artifact.training import Training

_NAMED = 5


@dataclass(frozen=True)
class Rules:
    """What the user allows, and the secrets that this process holds."""

    weights: Literal["headers", "sample", "full"] = "sample"
    allow_partial: bool = False
    allow_pickle: bool = False
    secrets: Collection[str] = ()


@dataclass(frozen=True)
class Report:
    """What all checks found; `looked` says how much of the weights was read for NaN and Inf."""

    findings: tuple[Finding, ...]
    looked: Looked | None = None

    @property
    def refusals(self) -> list[Finding]:
        """What forbids publishing."""
        return [finding for finding in self.findings if finding.refuses]

    @property
    def remarks(self) -> list[Finding]:
        """What is worth knowing, and published all the same."""
        return [finding for finding in self.findings if not finding.refuses]

    def refusal(self, folder: object) -> ArtifactError | None:
        """The error that says why not to publish; None if nothing forbids it."""
        refusals = self.refusals
        if not refusals:
            return None
        told = "; ".join(finding.sentence for finding in refusals[:_NAMED])
        more = f"; and {len(refusals) - _NAMED} more" if len(refusals) > _NAMED else ""
        cures = {finding.hint: finding.path for finding in reversed(refusals[:_NAMED])}
        hints = [f"{path}: {hint}" if path and len(cures) > 1 else hint for hint, path in cures.items()]
        return ArtifactError(f"{folder} may not be published: {told}{more}.", hint=" ".join(reversed(hints)))


def check(stock: Inventory, training: Training, rules: Rules) -> Report:
    """Look for everything that a published model must not be: broken, unfinished, leaking, dangerous.

    Raises:
        ArtifactError: a file cannot be read, or changed meanwhile.
    """
    with stock.reading():
        whole = structure(stock.files)
        findings = [*stock.remarks, *check_limits(stock.files), *whole.findings]
        told = {(finding.path, finding.kind) for finding in findings}
        pickles = check_pickles(stock.files, allowed=rules.allow_pickle)
        findings += [finding for finding in pickles if (finding.path, finding.kind) not in told]
        findings += scan(stock.files, rules.secrets)
        looked = None
        if rules.weights != "headers":
            readable = [(one, whole.headers[one.path]) for one in stock.files if one.path in whole.headers]
            numbers, looked = check_numbers(readable, rules.weights)
            findings += numbers
        findings += _end(training, allow_partial=rules.allow_partial)
    return Report(tuple(findings), looked)


def check_weights(stock: Inventory) -> Report:
    """Read every weight for NaN and Inf; nothing else is looked at.

    Raises:
        ArtifactError: a file cannot be read, or changed meanwhile.
    """
    with stock.reading():
        headers = structure(stock.files).headers
        readable = [(one, headers[one.path]) for one in stock.files if one.path in headers]
        findings, looked = check_numbers(readable, "full")
    return Report(tuple(findings), looked)


def _end(training: Training, *, allow_partial: bool) -> Iterator[Finding]:
    if training.ended == "cut-short":
        yield Finding(
            WHOLE_FOLDER,
            "partial",
            f"the training did not finish: {training.because}, and no early stopping ended it",
            "Let it finish, or set AGENT_ALLOW_PARTIAL=true to publish what there is.",
            refuses=not allow_partial,
        )
    elif training.ended == "unknown":
        message = f"whether the training finished is unknown: {training.because}"
        yield Finding(WHOLE_FOLDER, "end-unknown", message, "", refuses=False)
    for loss in (name for name in training.diverged if name.endswith("loss")):
        yield Finding(
            WHOLE_FOLDER,
            "diverged",
            f"the last {loss} that was logged is not a number: the training diverged",
            "Look at the model before anybody uses it.",
            refuses=False,
        )
