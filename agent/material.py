"""What folder and configuration tell for the card: read once, before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent import card, hyperparameters
from agent.artifact import is_image, open_regular, read_arguments, read_json
from agent.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from agent.artifact import LocalFile
    from agent.config import Config
    from agent.inspection import Inspection
    from agent.publication import Draft

README = "README.md"
_LARGEST_CONFIG, _LARGEST_SAMPLE = 10_000_000, 64_000


@dataclass(frozen=True)
class Material:
    """What was read, and who says so."""

    config: Config
    seen: Inspection
    draft: Draft
    model: Mapping[str, Any] = field(default_factory=dict)
    chat_template: bool = False
    reports: tuple[card.Report, ...] = ()
    gallery: str = ""
    arguments: Mapping[str, hyperparameters.Value] = field(default_factory=dict)

    @property
    def readme(self) -> str | None:
        """The README that the training or a person left in the folder."""
        found = self.draft.repaired.get(README)
        return None if found is None else found.decode(errors="replace")


def gather(config: Config, seen: Inspection, draft: Draft) -> Material:
    """Read what the card needs of the folder.

    Raises:
        OSError: a file cannot be read.
    """
    stock = seen.stock
    tokenizer = _object(stock.get("tokenizer_config.json"))
    beside = config.output_dir
    arguments = read_arguments(stock.root, hyperparameters.NAMES) or read_arguments(
        beside, hyperparameters.NAMES
    )
    return Material(
        config,
        seen,
        draft,
        model=_object(stock.get("config.json")),
        chat_template=stock.get("chat_template.jinja") is not None or "chat_template" in tokenizer,
        reports=tuple(_reports(stock.reports)),
        gallery=card.gallery(_samples(stock.samples)),
        arguments=arguments,
    )


def _reports(files: Collection[LocalFile]) -> Iterator[card.Report]:
    for file in files:
        try:
            figures = card.read_report(_content(file, card.LARGEST_REPORT_BYTES + 1))
        except ValueError as error:
            get_logger().warning("a report is published without a table", path=file.path, because=str(error))
            continue
        title = "Benchmarks" if file.path.startswith("benchmarks/") else "Evaluation"
        table = card.report_table(figures, file.path)
        yield card.Report(title, file.path, table, card.report_metrics(figures))


def _samples(files: Collection[LocalFile]) -> list[tuple[str, bytes | None]]:
    return [(file.path, None if is_image(file.path) else _content(file, _LARGEST_SAMPLE)) for file in files]


def _content(file: LocalFile, most_bytes: int) -> bytes:
    with open_regular(file.source) as stream:
        return stream.read(most_bytes)


def _object(file: LocalFile | None) -> Mapping[str, Any]:
    """A small JSON object; an empty one if it is none: the checks have said what is wrong with it."""
    try:
        found = read_json(file.source, _LARGEST_CONFIG) if file else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
