"""Models in other formats than a training leaves: ONNX, plain PyTorch, sentence-transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.layouts import llama
from tests.layouts.files import TOKENIZER, card, put, tokenizer
from tests.layouts.layout import Layout
from tests.layouts.onnx import write_onnx
from tests.layouts.torch_zip import write_torch

if TYPE_CHECKING:
    from pathlib import Path


def _onnx(folder: Path) -> None:
    """`optimum-cli export onnx --model … FOLDER` of a model too big for one protocol buffer.

    Source: optimum docs, "Export a model to ONNX"; tests/onnxruntime/test_diffusion.py of optimum-onnx names
    `model.onnx_data`.
    """
    llama.configs(folder)
    tokenizer(folder)
    write_onnx(folder / "model.onnx")


def _bin(folder: Path) -> None:
    """`save_pretrained(…, safe_serialization=False)` of transformers 4. Source: its docs."""
    llama.configs(folder)
    tokenizer(folder)
    write_torch(folder / "pytorch_model.bin", llama.tensors())


def _sharded_bin(folder: Path) -> None:
    """The same above `max_shard_size`. Source: transformers docs, "Sharded checkpoints"."""
    llama.configs(folder)
    tokenizer(folder)
    llama.write_shards(folder, "pytorch_model", "bin", write_torch)


def _own_loop(folder: Path) -> None:
    """`torch.save(model.state_dict(), "model.pt")` at the end of somebody's own loop.

    Source: PyTorch tutorials, "Saving and Loading Models".
    """
    write_torch(folder / "model.pt", llama.tensors("F32"))
    put(folder / "config.json", llama.CONFIG)


def _sentence_transformers(folder: Path) -> None:
    """`SentenceTransformer.save_pretrained`: a model, and the modules that make a vector of its output.

    Source: sbert.net, "Creating Custom Models" (structure of Sentence Transformer models).
    """
    llama.full_model(folder)
    tokenizer(folder)
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    document = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{name}"}
        for at, (path, name) in enumerate(modules.items())
    ]
    put(folder / "modules.json", document)
    pooling = {"word_embedding_dimension": llama.HIDDEN, "pooling_mode_mean_tokens": True}
    put(folder / "1_Pooling" / "config.json", pooling)
    put(folder / "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": False})
    put(folder / "config_sentence_transformers.json", {"prompts": {}, "similarity_fn_name": "cosine"})
    card(folder, "sentence-transformers", "sentence-similarity")


LAYOUTS = {
    "onnx": Layout(_onnx, "onnx", llama.CONFIGS | TOKENIZER | {"model.onnx", "model.onnx_data"}),
    "pytorch-bin": Layout(_bin, "pytorch", llama.CONFIGS | TOKENIZER | {"pytorch_model.bin"}),
    "pytorch-sharded-bin": Layout(
        _sharded_bin,
        "sharded",
        llama.CONFIGS
        | TOKENIZER
        | {f"pytorch_model-0000{shard}-of-00002.bin" for shard in (1, 2)}
        | {"pytorch_model.bin.index.json"},
    ),
    "pytorch-own-loop": Layout(_own_loop, "pytorch", frozenset({"model.pt", "config.json"})),
    "sentence-transformers": Layout(
        _sentence_transformers,
        "full",
        llama.FULL
        | TOKENIZER
        | {"modules.json", "1_Pooling/config.json"}
        | {"sentence_bert_config.json", "config_sentence_transformers.json"},
    ),
}
