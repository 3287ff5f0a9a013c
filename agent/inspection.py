"""What the configuration makes of the output folder: stock, training and verdict, without any account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import artifact, log

if TYPE_CHECKING:
    from agent.artifact import Inventory, Report, Training
    from agent.config import Config
    from agent.errors import ArtifactError


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


def inspect(config: Config, *, all_weights: bool = True) -> Inspection:
    """Take stock of the output folder and check it; nothing is changed.

    Args:
        config: what was asked for.
        all_weights: whether AGENT_CHECK_WEIGHTS=full is done now; else it is a sample, and `read_weights` is
            left to be done.

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
        weights=config.check_weights if all_weights or not wants_all_weights(config) else "sample",
        allow_partial=config.allow_partial,
        allow_pickle=config.allow_pickle,
        secrets=log.hidden(),
    )
    if rules.weights == "full":
        _announce(stock)
    return Inspection(stock, training, artifact.check(stock, training, rules))


def wants_all_weights(config: Config) -> bool:
    """Whether every single weight is to be read before this model is published."""
    return config.check_weights == "full"


def read_weights(stock: Inventory) -> ArtifactError | None:
    """Read all weights for NaN and Inf, which takes as long as reading the model; why not to publish it.

    Raises:
        ArtifactError: a file cannot be read, or changed meanwhile.
    """
    _announce(stock)
    return artifact.check_weights(stock).refusal(stock.root)


def _announce(stock: Inventory) -> None:
    log.get_logger().info("reading all weights for NaN and Inf", folder=str(stock.root))
