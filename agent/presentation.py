"""The page of a model: put together from the folder, the run, the user's words and the Hub's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent import card, hyperparameters, log
from agent.hub.files import MANIFEST
from agent.material import README

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from agent.hub.repo import Commit, Repo
    from agent.illustrations import Illustrations
    from agent.inspection import Inspection
    from agent.material import Material

_MEGA = 1_000_000
_NO_TAG = "job-00000000"  # a job that is named after its content is not known before the content is


@dataclass(frozen=True)
class Answers:
    """What only the Hub can tell: which names exist, and the README a person wrote there."""

    readme: str | None = None
    base: str | None = None
    dropped_bases: frozenset[str] = frozenset()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """One page, complete but for the ids of the publication; `plain` leaves the author's metadata out."""

    material: Material
    answers: Answers
    repo_id: str
    illustrations: Illustrations
    plain: bool = False

    def render(self, job_id: str = "", tag: str = _NO_TAG) -> str:
        """README.md as a reader will find it; waits for the plots."""
        write = card.plain_card if self.plain else card.publish_card
        return write(self.answers.readme, facts(self, job_id, tag, self.illustrations.pictures()))


def ask(material: Material, repo: Repo, head: Commit, tree: Collection[str]) -> Answers:
    """Ask the Hub for what the card may name."""
    readme = material.readme if material.readme is not None else _hub_readme(repo, head, tree)
    dataset = material.config.dataset
    known = bool(dataset) and card.is_model_id(str(dataset)) and repo.client.dataset_exists(str(dataset))
    return _answers(material, readme, repo.client.model_exists, (str(dataset),) if known else ())


def assume(material: Material) -> Answers:
    """The answers of a Hub that has every model that is named, for a page nobody publishes."""
    return _answers(material, material.readme, lambda _: True, ())


def _answers(
    material: Material, readme: str | None, exists: Callable[[str], bool], datasets: tuple[str, ...]
) -> Answers:
    in_adapter = (material.draft.adapter or {}).get(card.BASE_KEY)
    named = [str(in_adapter)] if in_adapter else []
    named += card.named_bases(card.read_metadata(readme)[0]) if readme else []
    base = card.choose_base(material.config.base_model, named, exists)
    return Answers(readme, base, frozenset(named) - {base or ""}, datasets)


def facts(page: Page, job_id: str, tag: str, pictures: tuple[card.Picture, ...]) -> card.Facts:
    """All that the card says."""
    material, answers = page.material, page.answers
    config, training = material.config, material.seen.training
    run, adapter = training.run, material.draft.adapter or {}
    return card.Facts(
        repo_id=page.repo_id,
        endpoint=config.endpoint,
        revision=config.revision,
        kind=material.seen.stock.kind,
        method=training.method,
        base_model=answers.base,
        dataset=public_name(config.dataset),
        datasets=answers.datasets,
        job_id=job_id,
        tag=tag,
        dropped_bases=answers.dropped_bases,
        paths=frozenset(material.draft.paths),
        adapter=adapter,
        model=material.model,
        chat_template=material.chat_template,
        versions=_versions(answers.readme, adapter, material.model),
        git_revision=config.git_revision,
        training=card.Training(
            metrics=training.metrics,
            history=run.history,
            steps=training.steps,
            max_steps=training.max_steps,
            epochs=run.epochs,
            runtime_s=run.runtime_s,
            tokens=run.tokens,
            ended=training.ended,
            diverged=training.diverged,
            hardware=config.hardware and log.redact(config.hardware),
            hyperparameters=_hyperparameters(material, adapter),
        ),
        pictures=pictures,
        reports=material.reports,
        gallery=material.gallery,
        weights_read=_weights_read(material.seen),
    )


def public_name(dataset: str | None) -> str | None:
    """A dataset's name without the folders of the machine it was read on, and without credentials in it."""
    if dataset and "://" in dataset:
        address = urlsplit(dataset)
        dataset = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
    elif dataset and dataset.startswith(("/", "~", ".")):
        dataset = Path(dataset).name
    return log.redact(dataset) if dataset else dataset


def _hub_readme(repo: Repo, head: Commit, tree: Collection[str]) -> str | None:
    """The README that a person wrote on the branch, if one did.

    One that is still as an earlier publication left it describes that model, not this one.
    """
    if README not in tree:
        return None
    content = repo.read(head.oid, README)
    left_by_us = repo.manifest_files(head.oid).get(README, {}) if MANIFEST in tree else {}
    ours = left_by_us.get("sha256") == hashlib.sha256(content).hexdigest()
    return None if ours else content.decode(errors="replace")


def _versions(readme: str | None, adapter: Mapping[str, Any], model: Mapping[str, Any]) -> Mapping[str, str]:
    told = {"peft": adapter.get("peft_version"), "transformers": model.get("transformers_version")}
    return card.framework_versions(readme) | {
        name: version for name, version in told.items() if isinstance(version, str) and version
    }


def _hyperparameters(material: Material, adapter: Mapping[str, Any]) -> Mapping[str, hyperparameters.Value]:
    """What ran beats what was asked for; what an adapter is, its own config says."""
    asked, ran = material.config.hyperparameters, hyperparameters.pick(material.arguments)
    return {
        name: log.redact(value) if isinstance(value, str) else value
        for name, value in {**asked, **ran, **hyperparameters.pick(adapter)}.items()
    }


def _weights_read(seen: Inspection) -> str:
    looked = seen.report.looked
    if looked is None or not looked.tensors_seen:
        return ""
    read = f"{looked.bytes_read:,} bytes"
    if looked.bytes_read >= _MEGA:
        read = f"{looked.bytes_read / _MEGA:,.1f} MB"
    return (
        f"Before that, {read} of its weights, in {looked.tensors_seen:,} of {looked.tensors_total:,} "
        "tensors, were read for NaN and Inf."
    )
