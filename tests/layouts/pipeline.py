"""The smallest Stable Diffusion pipeline: configs of its models, and every tensor that they ask for.

Source: the state dicts that diffusers 0.42 and transformers 5.23 make of these configs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.layouts.tensors import Spec

_WIDTH, _LATENT, _PIXEL, _TIME, _TEXT, _TEXT_INNER = 8, 4, 3, 32, 16, 32
_POSITIONS = 16
VOCAB = 54

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.42.1",
    "attention_head_dim": 4,
    "block_out_channels": [_WIDTH],
    "cross_attention_dim": _TEXT,
    "down_block_types": ["DownBlock2D"],
    "in_channels": _LATENT,
    "layers_per_block": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_num_groups": 4,
    "out_channels": _LATENT,
    "sample_size": 8,
    "up_block_types": ["UpBlock2D"],
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.42.1",
    "block_out_channels": [_WIDTH],
    "down_block_types": ["DownEncoderBlock2D"],
    "in_channels": _PIXEL,
    "latent_channels": _LATENT,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "out_channels": _PIXEL,
    "sample_size": 8,
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"],
}
TEXT_ENCODER = {
    "architectures": ["CLIPTextModel"],
    "bos_token_id": VOCAB - 2,
    "dtype": "float32",
    "eos_token_id": VOCAB - 1,
    "hidden_act": "quick_gelu",
    "hidden_size": _TEXT,
    "intermediate_size": _TEXT_INNER,
    "max_position_embeddings": _POSITIONS,
    "model_type": "clip_text_model",
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "pad_token_id": VOCAB - 1,
    "vocab_size": VOCAB,
}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.42.1",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def unet() -> dict[str, Spec]:
    """Tensors of the UNet: a block down, a block in the middle with attention, a block up."""
    w = _WIDTH
    block = "mid_block.attentions.0.transformer_blocks.0"
    return {
        **_layer("conv_in", w, _LATENT, 3, 3),
        **_layer("time_embedding.linear_1", _TIME, w),
        **_layer("time_embedding.linear_2", _TIME, _TIME),
        **_resnet("down_blocks.0.resnets.0", w, time=True),
        **_resnet("mid_block.resnets.0", w, time=True),
        **_layer("mid_block.attentions.0.norm", w),
        **_layer("mid_block.attentions.0.proj_in", w, w, 1, 1),
        **_layer(f"{block}.norm1", w),
        **_attention(f"{block}.attn1", w),
        **_layer(f"{block}.norm2", w),
        **_attention(f"{block}.attn2", _TEXT),
        **_layer(f"{block}.norm3", w),
        **_layer(f"{block}.ff.net.0.proj", 8 * w, w),
        **_layer(f"{block}.ff.net.2", w, 4 * w),
        **_layer("mid_block.attentions.0.proj_out", w, w, 1, 1),
        **_resnet("mid_block.resnets.1", w, time=True),
        **_resnet("up_blocks.0.resnets.0", 2 * w, time=True),
        **_resnet("up_blocks.0.resnets.1", 2 * w, time=True),
        **_layer("conv_norm_out", w),
        **_layer("conv_out", _LATENT, w, 3, 3),
    }


def vae() -> dict[str, Spec]:
    """Tensors of the autoencoder: the encoder tells mean and variance, hence twice the latent channels."""
    return {
        **_coder("encoder", _PIXEL, 2 * _LATENT, ["down_blocks.0.resnets.0"]),
        **_coder("decoder", _LATENT, _PIXEL, ["up_blocks.0.resnets.0", "up_blocks.0.resnets.1"]),
        **_layer("quant_conv", 2 * _LATENT, 2 * _LATENT, 1, 1),
        **_layer("post_quant_conv", _LATENT, _LATENT, 1, 1),
    }


def text_encoder() -> dict[str, Spec]:
    """Tensors of a CLIP text model of one layer."""
    layer = "encoder.layers.0"
    found: dict[str, Spec] = {
        "embeddings.token_embedding.weight": ("F32", (VOCAB, _TEXT)),
        "embeddings.position_embedding.weight": ("F32", (_POSITIONS, _TEXT)),
    }
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        found |= _layer(f"{layer}.self_attn.{name}", _TEXT, _TEXT)
    found |= _layer(f"{layer}.mlp.fc1", _TEXT_INNER, _TEXT) | _layer(f"{layer}.mlp.fc2", _TEXT, _TEXT_INNER)
    for norm in (f"{layer}.layer_norm1", f"{layer}.layer_norm2", "final_layer_norm"):
        found |= _layer(norm, _TEXT)
    return found


def _coder(name: str, inputs: int, outputs: int, resnets: list[str]) -> dict[str, Spec]:
    w = _WIDTH
    found = _layer(f"{name}.conv_in", w, inputs, 3, 3)
    for resnet in (*resnets, "mid_block.resnets.0", "mid_block.resnets.1"):
        found |= _resnet(f"{name}.{resnet}", w)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        found |= _layer(f"{name}.mid_block.attentions.0.{part}", w, w)
    found |= _layer(f"{name}.mid_block.attentions.0.group_norm", w)
    return found | _layer(f"{name}.conv_norm_out", w) | _layer(f"{name}.conv_out", outputs, w, 3, 3)


def _resnet(name: str, inputs: int, *, time: bool = False) -> dict[str, Spec]:
    w = _WIDTH
    found = _layer(f"{name}.norm1", inputs) | _layer(f"{name}.conv1", w, inputs, 3, 3)
    found |= _layer(f"{name}.norm2", w) | _layer(f"{name}.conv2", w, w, 3, 3)
    if time:
        found |= _layer(f"{name}.time_emb_proj", w, _TIME)
    return found if inputs == w else found | _layer(f"{name}.conv_shortcut", w, inputs, 1, 1)


def _attention(name: str, context: int) -> dict[str, Spec]:
    w = _WIDTH
    found: dict[str, Spec] = {
        f"{name}.to_q.weight": ("F32", (w, w)),
        f"{name}.to_k.weight": ("F32", (w, context)),
        f"{name}.to_v.weight": ("F32", (w, context)),
    }
    return found | _layer(f"{name}.to_out.0", w, w)


def _layer(name: str, *shape: int) -> dict[str, Spec]:
    """A weight of this shape and a bias for each output."""
    return {f"{name}.weight": ("F32", shape), f"{name}.bias": ("F32", shape[:1])}
