"""`check`: everything known of a folder, without any account, and whether it may be published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import ArtifactError
from agent.inspection import Inspection, inspect

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config

_MADE = {"README.md", "finalize.json"}  # in every repo that we publish to


@dataclass
class Checked:
    """What `check` found; `inspection` is None when the folder holds no model at all."""

    folder: Path | None = None
    inspection: Inspection | None = None
    error: dict[str, str] | None = None

    def failed(self, _error: BaseException, *, code: str, message: str, hint: str) -> None:
        """Note why the folder may not be published."""
        self.error = {"code": code, "message": message, "hint": hint}

    def as_json(self) -> dict[str, Any]:
        """One object: the verdict, the files, what was found."""
        answer: dict[str, Any] = {"publishable": self.error is None, "folder": str(self.folder)}
        if self.inspection:
            stock, training = self.inspection.stock, self.inspection.training
            looked = self.inspection.report.looked
            answer |= {
                "root": str(stock.root),
                "kind": stock.kind,
                "bytes": stock.size_bytes,
                "files": [{"path": file.path, "size": file.size_bytes} for file in stock.files],
                "left_out": [{"path": path, "reason": reason} for path, reason in stock.left_out],
                "training": {
                    "method": training.method,
                    "ended": training.ended,
                    "because": training.because,
                    "steps": training.steps,
                    "max_steps": training.max_steps,
                    "best_metric": training.best_metric,
                    "metrics": training.metrics,
                },
                "weights_read": None
                if looked is None
                else {
                    "bytes": looked.bytes_read,
                    "tensors": looked.tensors_seen,
                    "of_tensors": looked.tensors_total,
                },
                "findings": [
                    {
                        "path": one.path,
                        "kind": one.kind,
                        "message": one.message,
                        "hint": one.hint,
                        "refuses": one.refuses,
                    }
                    for one in self.inspection.report.findings
                ],
            }
        return answer | {"error": self.error}


def check_folder(config: Config, checked: Checked) -> None:
    """Fill in the answer; an empty repo is assumed, as the Hub is not asked.

    Raises:
        ArtifactError: the folder may not be published.
    """
    checked.folder = config.output_dir
    seen = checked.inspection = inspect(config)
    refusal = seen.report.refusal(seen.stock.root)
    if refusal:
        raise refusal
    missing = sorted(set(config.expect) - _MADE - {file.path for file in seen.stock.files})
    if missing:
        raise ArtifactError(
            f"{', '.join(missing)} is in AGENT_EXPECT and not among the files of {seen.stock.root}.",
            hint="Let the training save it there, or correct AGENT_EXPECT.",
        )
