"""What the configuration makes of the output folder: stock, training and verdict, without any account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import artifact, log

if TYPE_CHECKING:
    from agent.artifact import Inventory, Report, Training
    from agent.config import Config


@dataclass(frozen=True)
class Inspection:
    """One look at the output folder."""

    stock: Inventory
    training: Training
    report: Report

    def tell_remarks(self) -> list[str]:
        """Log what is worth knowing of a model that may be published, and return the sentences."""
        for finding in self.report.remarks:
            # Most trainers do not tell how a training ended: that is said, but it is no warning.
            say = log.get_logger().info if finding.kind == "end-unknown" else log.get_logger().warning
            say(finding.sentence, folder=str(self.stock.root))
        return [finding.sentence for finding in self.report.remarks]


def inspect(config: Config) -> Inspection:
    """Take stock of the output folder and check it; nothing is changed.

    Raises:
        ArtifactError: there is no model in it, a file cannot be read, or changed meanwhile.
    """
    wanted = artifact.Wanted(
        artifact.Selection(config.exclude, config.include),
        config.checkpoint,
        config.files,
        config.reports,
        config.samples_dir,
    )
    stock = artifact.take_stock(config.output_dir, wanted)
    training = artifact.read_training(
        stock.root,
        config.training_method,
        beside=config.output_dir,
        weights_ns=stock.weights_ns,
        whole_run=stock.of_run and config.checkpoint == "best",
    )
    rules = artifact.Rules(
        weights=config.check_weights,
        allow_partial=config.allow_partial,
        allow_pickle=config.allow_pickle,
        secrets=log.hidden(),
    )
    if config.check_weights == "full":
        log.get_logger().info("reading all weights for NaN and Inf", folder=str(stock.root))
    return Inspection(stock, training, artifact.check(stock, training, rules))
