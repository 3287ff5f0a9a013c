"""Reports and samples for the card: published if they can be; what is wrong with them keeps no model back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.artifact.findings import Finding
from agent.artifact.placements import one_file_a_path, place
from agent.artifact.samples import choose_samples
from agent.errors import ArtifactError
from agent.repo_paths import why_not

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from agent.artifact.files import LocalFile
    from agent.artifact.walk import Selection
    from agent.repo_paths import Placement


@dataclass
class Extras:
    """What stands on the card, and which of it is not among the model's files already."""

    reports: list[LocalFile] = field(default_factory=list)
    samples: list[LocalFile] = field(default_factory=list)
    added: list[LocalFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)


def choose_extras(
    files: Sequence[LocalFile], reports: Iterable[Placement], samples: Path | None, selection: Selection
) -> Extras:
    """Choose the files that EVALUATION_REPORT, BENCHMARK_REPORT and SAMPLES_DIR mean.

    Args:
        files: what is published without them.
        reports: where each will stand in the repo.
        samples: the folder of samples.
        selection: what of it may be published.
    """
    found = Extras()
    for report in reports:
        try:
            found.reports += _fitting(files, _report(report, selection), found)
        except ArtifactError as error:
            found.remarks.append(_left_out(report.dest, error))
    if samples:
        try:
            chosen = choose_samples(samples, selection)
            found.samples += _fitting(files, chosen.files, found)
            found.left_out += chosen.left_out
        except ArtifactError as error:
            found.remarks.append(_left_out("samples/", error))
    return found


def _report(placement: Placement, selection: Selection) -> list[LocalFile]:
    named_in = f"{placement.dest.split('/')[0].removesuffix('s').upper()}_REPORT"
    reason = "it is a folder" if placement.source.is_dir() else why_not(placement.dest)
    if reason:
        raise ArtifactError(f"{placement.source}, in {named_in}: {reason}.", hint="Name a JSON file.")
    return place(placement, selection, named_in).files


def _fitting(files: Sequence[LocalFile], extras: Sequence[LocalFile], found: Extras) -> list[LocalFile]:
    """The extras, added unless the model's files hold them: an output folder may have its own `samples/`."""
    present = {file.path: file for file in files}
    new = [one for one in extras if one.path not in present or one.stamp != present[one.path].stamp]
    one_file_a_path([*files, *found.added, *new])
    found.added += new
    return list(extras)


def _left_out(path: str, error: ArtifactError) -> Finding:
    return Finding(path, "not-on-the-card", f"is left out: {error.message}", error.hint, refuses=False)
