"""Whether a PEFT adapter's weights are the ones that its config speaks of.

Source: https://huggingface.co/docs/peft/developer_guides/checkpoint, and where it is silent PEFT 0.21 itself.
What a config leaves uncertain is not checked: a real adapter must never be refused.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.artifact.files import read_json
from agent.artifact.findings import Finding
from agent.artifact.safetensors import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.artifact.files import LocalFile
    from agent.artifact.safetensors import Header, Tensor

_LARGEST_CONFIG = 10_000_000
_LONGEST_NAME = 500  # no module has a longer one, and some steps are quadratic in it
_DEFAULT_RANK = 8  # LoraConfig's
_REGEX_S = 2.0

_TAIL = re.compile(
    r"(?P<embedding>embedding_)?(?P<side>[AB])(?P<adapter>(?:\.[^.]+)??)(?P<weight>(?:\.weight)?)"
)
# Modules that torch puts around others; names in a config do not know them.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_MATCH = (
    "import json, re, sys; pattern, names = json.load(sys.stdin); "
    "json.dump([name for name in names if not re.fullmatch(pattern, name)], sys.stdout)"
)

_SAVE_AGAIN = "Save the adapter again with PEFT's save_pretrained, which writes both files."
_GATHER = (
    "Save the adapter again, weights and config together; with DeepSpeed ZeRO-3 or FSDP the weights must be "
    "gathered first (stage3_gather_16bit_weights_on_model_save, FULL_STATE_DICT)."
)
# PEFT 0.21 saves the config with sorted keys, so that another pattern can become the first that fits.
_SORTED = (
    "Save the adapter again, with a rank_pattern in which no two keys end the same module's name: PEFT takes "
    "the first that fits, and sorts them when it saves."
)


@dataclass
class _Pair:
    """The two LoRA matrices of a module, as far as they are there."""

    module: str
    a: Tensor | None = None
    b: Tensor | None = None


def check_adapter(
    config: LocalFile | None, weights: LocalFile | None, header: Header | None, folder: str
) -> Iterator[Finding]:
    """Compare the adapter_config.json and the adapter weights of one folder.

    Args:
        config: the folder's adapter_config.json, if there is one.
        weights: its adapter_model.safetensors or .bin, if there is one.
        header: of the weights, unless they are a .bin.
        folder: its path in the repo; the root's is empty.

    Raises:
        OSError: the config cannot be read.
    """
    if config is None:
        if weights:
            message = "has no adapter_config.json beside it: PEFT cannot load it"
            yield Finding(weights.path, "adapter-config-missing", message, _SAVE_AGAIN)
        return
    if weights is None:
        where = f"{folder}/" if folder else "the folder"
        message = f"is there, but no adapter weights are in {where}: loaders would look for them and fail"
        hint = "Remove it if this is no adapter (any more), or save the adapter again."
        yield Finding(config.path, "adapter-weights-missing", message, hint)
    try:
        settings = _settings(config)
    except ValueError as error:
        yield Finding(config.path, "damaged", str(error), _SAVE_AGAIN)
        return
    if settings["peft_type"].upper() != "LORA":
        return
    rank = settings.get("r", _DEFAULT_RANK)
    if type(rank) is not int or rank <= 0:
        yield Finding(config.path, "damaged", "has no rank: r is no whole number above 0", _SAVE_AGAIN)
    elif weights and header:
        yield from _check_lora(settings, rank, weights, header)


def _settings(config: LocalFile) -> dict[str, Any]:
    """The config; ValueError's message goes on after its path."""
    document = read_json(config.source, _LARGEST_CONFIG)
    if not (isinstance(document, dict) and isinstance(document.get("peft_type"), str)):
        raise ValueError("is no adapter's config: it has no peft_type")  # noqa: TRY004 - as for every flaw
    return document


def _check_lora(settings: dict[str, Any], rank: int, weights: LocalFile, header: Header) -> Iterator[Finding]:
    pairs = _pairs(header)
    # What else may have been trained.
    elsewhere = ("target_parameters", "modules_to_save", "trainable_token_indices")
    if not pairs and not any(settings.get(key) for key in elsewhere):
        yield Finding(weights.path, "adapter-mismatch", "holds no LoRA weights", _GATHER)
    lonely = [
        tensor.name for pair in pairs for tensor in (pair.a, pair.b) if tensor and not (pair.a and pair.b)
    ]
    if lonely:
        message = f"holds half a pair of lora_A and lora_B: {listed(lonely)}"
        yield Finding(weights.path, "adapter-mismatch", message, _GATHER)
    if any(settings.get(key) for key in ("target_parameters", "use_bdlora", "layer_replication")):
        return
    pattern = settings.get("rank_pattern")
    wrong = list(_of_other_rank(pairs, rank, pattern))
    if wrong:
        message = (
            f"does not fit adapter_config.json: {len(wrong):,} LoRA matrices are not of "
            f"{'its ranks' if pattern else f'rank {rank}'}, {listed([tensor.name for tensor in wrong])}; "
            f"the first has the shape {list(wrong[0].shape[:5])}"
        )
        yield Finding(weights.path, "adapter-mismatch", message, _SORTED if pattern else _GATHER)
    if not settings.get("ensure_weight_tying"):  # then the output layer is trained too
        untold = _not_targeted(pairs, settings.get("target_modules"))
        if untold:
            message = f"holds LoRA weights of modules that are not in target_modules: {listed(untold)}"
            yield Finding(weights.path, "adapter-mismatch", message, _SAVE_AGAIN)


def _pairs(header: Header) -> list[_Pair]:
    """Matrices by module; a name is `base_model.model.<module>.lora_A.weight` or `….lora_embedding_A`."""
    pairs: dict[tuple[str, ...], _Pair] = {}
    for name, tensor in header.tensors.items():
        module, _, tail = name.rpartition(".lora_") if len(name) <= _LONGEST_NAME else ("", "", "")
        found = _TAIL.fullmatch(tail)
        if not found or not (found["embedding"] or found["weight"]):
            continue
        parts = [
            part for part in module.removeprefix("base_model.model.").split(".") if part not in _WRAPPERS
        ]
        pair = pairs.setdefault((module, found["adapter"]), _Pair(".".join(parts)))
        if found["side"] == "A":
            pair.a = tensor
        else:
            pair.b = tensor
    return list(pairs.values())


def _of_other_rank(pairs: list[_Pair], rank: int, pattern: object) -> Iterator[Tensor]:
    """Matrices that are neither A of shape [rank, …] nor B of shape […, rank], kernels aside."""
    ranks = _Ranks(rank, pattern if isinstance(pattern, dict) else {})
    for pair in pairs:
        allowed = ranks.of(pair.module)
        if pair.a and not (len(pair.a.shape) > 1 and pair.a.shape[0] in allowed):
            yield pair.a
        if pair.b and not (len(pair.b.shape) > 1 and _is_of_rank(pair.b.shape, allowed)):
            yield pair.b


def _is_of_rank(b: tuple[int, ...], allowed: set[int]) -> bool:
    # B of a convolution with groups has the rank divided by them.
    is_kernel = len(b) > 2  # noqa: PLR2004 - a matrix
    return b[1] in allowed or (is_kernel and b[1] > 0 and any(rank % b[1] == 0 for rank in allowed))


class _Ranks:
    """Ranks of modules as PEFT's get_pattern_key finds them: by the first key that ends a module's name."""

    def __init__(self, rank: int, pattern: dict[str, object]) -> None:
        self._default = {rank}
        self._order = {key: at for at, key in enumerate(pattern)}
        self._ranks = [{other} if type(other) is int else set() for other in pattern.values()]
        # A key may be a regular expression; then any of the ranks may be meant for any module.
        self._plain = all(re.fullmatch(r"[\w.]+", key) for key in pattern)
        self._any = self._default.union(*self._ranks)

    def of(self, module: str) -> set[int]:
        if not self._plain:
            return self._any
        at = min((self._order[end] for end in _ends(module) if end in self._order), default=None)
        return self._default if at is None else self._ranks[at]


def _ends(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[at:]) for at in range(len(parts)))


def _not_targeted(pairs: list[_Pair], target: object) -> list[str]:
    """Modules that check_target_module_exists of PEFT would not give a LoRA layer."""
    # The output of an attention layer is wrapped with it, without being named.
    modules = list(dict.fromkeys(pair.module for pair in pairs if "base_layer" not in pair.module.split(".")))
    if isinstance(target, list):
        names = {name for name in target if isinstance(name, str)}
        return [module for module in modules if names.isdisjoint(_ends(module))]
    if isinstance(target, str) and target.lower() != "all-linear":
        return _unmatched(target, modules)
    return []


def _unmatched(pattern: str, names: list[str]) -> list[str]:
    """Names that a pattern does not match; none if it takes too long to tell.

    A regular expression of somebody else's hands can take for ever, and only a process can be stopped at it.
    """
    command = [sys.executable, "-I", "-S", "-c", _MATCH]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and program
            command,
            input=json.dumps([pattern, names]).encode(),
            env={},
            capture_output=True,
            timeout=_REGEX_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    unmatched: list[str] = json.loads(done.stdout)
    return unmatched
