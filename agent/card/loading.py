"""How a reader loads what is in the repo: code that fits its files."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from agent.card.markdown import code

if TYPE_CHECKING:
    from agent.card.facts import Facts

_TOKENIZERS = {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model"}
_AUTO = {
    "text-classification": "SequenceClassification",
    "token-classification": "TokenClassification",
    "question-answering": "QuestionAnswering",
    "feature-extraction": "",
}
_CHAT = """\
messages = [{"role": "user", "content": "Who are you?"}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
).to(model.device)
output = model.generate(**inputs, max_new_tokens=256)
print(tokenizer.decode(output[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""
_PROMPT = """\
inputs = tokenizer("Once upon a time", return_tensors="pt").to(model.device)
output = model.generate(**inputs, max_new_tokens=256)
print(tokenizer.decode(output[0], skip_special_tokens=True))
"""


def how_to_load(facts: Facts) -> str:
    """Markdown: a fenced block, and a sentence where the reader has to bring something."""
    if facts.kind == "gguf":
        return _fenced("sh", f"llama-cli -hf {facts.repo_id}{_gguf_file(facts)} -cnv\n")
    if facts.kind == "diffusers":
        return _fenced("python", _diffusers(facts))
    if facts.kind in {"onnx", "pytorch"}:
        return _fenced("python", _file(facts))
    if facts.kind == "adapters":
        return _adapters(facts)
    if facts.is_adapter and facts.base_model is None:
        words = "The base model is not on the Hub: put your copy of it in the place of `base`.\n\n"
        return words + _fenced("python", _adapter_on_a_copy(facts))
    return _fenced("python", _transformers(facts))


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}```\n"


def _revision(facts: Facts) -> str:
    return "" if facts.revision == "main" else f', revision="{facts.revision}"'


def _auto(facts: Facts) -> str:
    return f"AutoModelFor{_AUTO.get(facts.task or '', 'CausalLM')}".removesuffix("For")


def _transformers(facts: Facts) -> str:
    where = f'"{facts.repo_id}"{_revision(facts)}'
    auto = _auto(facts)
    tokenizer = f"tokenizer = AutoTokenizer.from_pretrained({_tokenizer(facts)})\n"
    if facts.is_adapter:
        head = f"from peft import AutoPeft{auto[4:]}\nfrom transformers import AutoTokenizer\n\n"
        model = f'model = AutoPeft{auto[4:]}.from_pretrained({where}, device_map="auto")\n'
    else:
        head = f"from transformers import {auto}, AutoTokenizer\n\n"
        model = f'model = {auto}.from_pretrained({where}, dtype="auto", device_map="auto")\n'
    return head + model + tokenizer + _use(facts)


def _use(facts: Facts) -> str:
    if facts.task not in {None, "text-generation"}:
        return ""
    return "\n" + (_CHAT if facts.chat_template else _PROMPT)


def _tokenizer(facts: Facts) -> str:
    ours = bool(facts.paths & _TOKENIZERS) or facts.base_model is None
    return f'"{facts.repo_id}"{_revision(facts)}' if ours else f'"{facts.base_model}"'


def _adapter_on_a_copy(facts: Facts) -> str:
    auto = _auto(facts)
    return (
        f"from peft import PeftModel\nfrom transformers import {auto}, AutoTokenizer\n\n"
        f'base = {auto}.from_pretrained("path/to/base", dtype="auto", device_map="auto")\n'
        f'model = PeftModel.from_pretrained(base, "{facts.repo_id}"{_revision(facts)})\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{facts.repo_id}"{_revision(facts)})\n' + _use(facts)
    )


def _adapters(facts: Facts) -> str:
    found = {path.rpartition("/")[0] for path in facts.paths if path.endswith("/adapter_config.json")}
    return f"Each of these folders is an adapter for PEFT: {', '.join(map(code, sorted(found)))}.\n"


def _gguf_file(facts: Facts) -> str:
    files = sorted(path for path in facts.paths if path.endswith(".gguf"))
    return f" --hf-file {shlex.quote(files[0])}" if len(files) > 1 else ""


def _diffusers(facts: Facts) -> str:
    head = "from diffusers import DiffusionPipeline\n\n"
    if "model_index.json" in facts.paths:
        return head + f'pipeline = DiffusionPipeline.from_pretrained("{facts.repo_id}"{_revision(facts)})\n'
    return (
        head
        + f'pipeline = DiffusionPipeline.from_pretrained("{facts.base_model or "path/to/base"}")\n'
        + f'pipeline.load_lora_weights("{facts.repo_id}"{_revision(facts)})\n'
    )


def _file(facts: Facts) -> str:
    endings = {"onnx": (".onnx",), "pytorch": (".bin", ".pt", ".pth", ".ckpt")}[facts.kind]
    first = min((path for path in facts.paths if path.endswith(endings)), default="model")
    fetch = (
        "from huggingface_hub import hf_hub_download\n\n"
        f'path = hf_hub_download("{facts.repo_id}", {first!r}{_revision(facts)})\n'
    )
    if facts.kind == "onnx":
        return f"import onnxruntime\n{fetch}session = onnxruntime.InferenceSession(path)\n"
    return f'import torch\n{fetch}weights = torch.load(path, map_location="cpu", weights_only=True)\n'
