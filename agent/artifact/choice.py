"""Which folder holds the model: the root, its merged model, or one of its checkpoints.

The rule, in this order; whatever is left open is refused rather than guessed:

1. AGENT_CHECKPOINT=best: the checkpoint that the trainer names as best_model_checkpoint.
2. `merged_model/`, if it is whole.
3. The folder itself, if it holds weights.
4. Its last complete checkpoint, if all its checkpoints are of one run and no merge was begun.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.artifact import names, states
from agent.artifact.findings import WHOLE_FOLDER, Finding
from agent.artifact.merged import NAME as MERGED
from agent.artifact.merged import flaw_of_merge
from agent.artifact.structure import structure
from agent.artifact.walk import Selection, Walk, walk
from agent.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

_NAMED = 3
_SAVE = "Let the training script end with trainer.save_model(), or set OUTPUT_DIR to where it saved it."


@dataclass(frozen=True)
class Choice:
    """The folder to publish and its files; `remarks` tell what was passed over on the way to it.

    `of_run` says that it is a checkpoint picked from a run's folder.
    """

    root: Path
    walk: Walk
    remarks: tuple[Finding, ...] = ()
    of_run: bool = False


def choose(output_dir: Path, selection: Selection, checkpoint: Literal["last", "best"]) -> Choice:
    """Pick the folder that holds the model, by the rule above.

    Raises:
        ArtifactError: there is no model, or more than one that could be meant.
    """
    if checkpoint == "best":
        return _best(output_dir, selection)
    merged, flaw = output_dir / MERGED, None
    remarks: tuple[Finding, ...] = ()
    if merged.is_dir() and not selection.exclude.match(f"{MERGED}/"):
        flaw = flaw_of_merge(merged)
        if flaw is None:
            return Choice(merged, walk(merged, selection))
    here = walk(output_dir, selection)
    if flaw is not None:
        remarks = (_remark(f"{MERGED}/", f"is not whole and stays behind: {flaw}"),)
        here = _without_merged(here)
    if any(names.is_weights(file.path) for file in here.files):
        return Choice(output_dir, here, remarks)
    if flaw is not None:
        raise ArtifactError(
            f"No model weights to publish in {output_dir}, and its {MERGED}/ is not whole: {flaw}.",
            hint="Merge again (was the disk full?), or set OUTPUT_DIR to the folder to publish.",
        )
    last, incomplete = _last(output_dir, selection)
    if last:
        return last
    if any(names.is_plain_weights(file.path) for file in here.files):
        return Choice(output_dir, here)
    told = "".join(f" {finding.sentence}." for finding in incomplete[:_NAMED])
    raise ArtifactError(f"No model weights to publish in {output_dir}.{told}", hint=_where_weights_are(here))


def _best(output_dir: Path, selection: Selection) -> Choice:
    state = states.newest_state(output_dir)
    best = state.best_checkpoint if state else None
    if best is None:
        raise ArtifactError(
            f"AGENT_CHECKPOINT is best, but no trainer_state.json in {output_dir} names a best checkpoint.",
            hint="Train with metric_for_best_model and evaluations, or unset AGENT_CHECKPOINT.",
        )
    there = {folder.name for _, folder in states.checkpoints(output_dir)}
    flaw = checkpoint_flaw(output_dir / best, selection) if best in there else "it is not there"
    if flaw:
        raise ArtifactError(
            f"The best checkpoint, {output_dir / best}, cannot be published: {flaw}.",
            hint="Was it removed by save_total_limit? Unset AGENT_CHECKPOINT to publish the last state.",
        )
    remark = _remark(f"{best}/", "is published: the trainer names it as the best")
    return Choice(output_dir / best, walk(output_dir / best, selection), (remark,), of_run=True)


def _last(output_dir: Path, selection: Selection) -> tuple[Choice | None, list[Finding]]:
    """The last complete checkpoint, if there is one, and what is wrong with those after it."""
    passed_over = []
    complete: list[Path] = []
    for _, folder in states.checkpoints(output_dir):
        flaw = checkpoint_flaw(folder, selection)
        if flaw is None:
            complete.append(folder)
        elif not complete:
            passed_over.append(_remark(f"{folder.name}/", f"is not complete: {flaw}"))
    if not complete:
        return None, passed_over
    stranger = next((other for other in complete[1:] if not _same_run(complete[0], other)), None)
    if stranger:
        raise ArtifactError(
            f"{output_dir} holds no weights, and its checkpoints are of different runs: {complete[0].name} "
            f"does not continue {stranger.name}.",
            hint=f"Set OUTPUT_DIR to the one to publish, for example {complete[0]}.",
        )
    remark = _remark(f"{complete[0].name}/", "is published: the folder itself holds no weights")
    root = complete[0]
    return Choice(root, walk(root, selection), (*passed_over, remark), of_run=True), passed_over


def checkpoint_flaw(folder: Path, selection: Selection) -> str | None:
    """Why a checkpoint is not complete; None if it is."""
    state = states.read_state(folder / states.NAME, states.NAME, in_root=True)
    if state is None:
        return f"it has no readable {states.NAME}, which is written last"
    if state.steps is not None and not folder.name.endswith(f"-{state.steps}"):
        return f"its {states.NAME} is of step {state.steps}"
    return _flaw(folder, selection)


def _flaw(folder: Path, selection: Selection) -> str | None:
    """Why a folder holds no whole model; None if it does."""
    try:
        files = walk(folder, selection).files
        if not any(names.is_weights(file.path) for file in files):
            return "it holds no weights"
        refusing = [one for one in structure(files).findings if one.refuses]
    except OSError as error:
        return f"{error.filename or folder} cannot be read: {error.strerror}"
    except ArtifactError as error:
        return error.message
    return refusing[0].sentence if refusing else None


def _same_run(later: Path, earlier: Path) -> bool:
    """Whether the later checkpoint's log begins with the whole log of the earlier one."""
    logs = []
    for folder in (later, earlier):
        state = states.read_state(folder / states.NAME, states.NAME, in_root=True)
        history = state.document.get("log_history") if state else None
        logs.append([json.dumps(entry) for entry in history] if isinstance(history, list) else [])
    return logs[0][: len(logs[1])] == logs[1]


def _without_merged(here: Walk) -> Walk:
    found = Walk(left_out=here.left_out[:])
    for file in here.files:
        if file.path.startswith(f"{MERGED}/"):
            found.left_out.append((file.path, f"{MERGED}/ is not whole"))
        else:
            found.files.append(file)
    found.left_out.sort()
    return found


def _remark(path: str, message: str) -> Finding:
    return Finding(path or WHOLE_FOLDER, "choice", message, "", refuses=False)


def _where_weights_are(here: Walk) -> str:
    weights = [(path, why) for path, why in here.left_out if names.is_weights(path) or ".distcp" in path]
    in_root = [f"{path} stays behind: {why}" for path, why in weights if "/" not in path]
    if in_root:
        return f"{in_root[0]}; put the file itself into the folder, under a name that is published."
    folders = sorted({path.split("/")[0] for path, _ in here.left_out})
    if any(path.endswith(".distcp") for path, _ in weights):
        return (
            "FSDP left sharded state only (*.distcp): merge it with `accelerate merge-weights`, or train "
            "with FULL_STATE_DICT."
        )
    if any(folder.startswith("global_step") for folder in folders):
        return (
            "DeepSpeed ZeRO left its own state only (global_step*): run its zero_to_fp32.py, or train with "
            "stage3_gather_16bit_weights_on_model_save."
        )
    found = sorted({path.split("/")[0] for path, _ in weights})
    if found:
        return f"Weights were found in {', '.join(found)}, which is training state or incomplete. {_SAVE}"
    return _SAVE
