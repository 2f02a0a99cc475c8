"""Small members of Hugging Face's model families, with random weights: one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.coverage.case import Built, Case

_TOKENS = 16
_WIDTH = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_VOCABULARY = {"vocab_size": 128}
_POSITIONS = {"max_position_embeddings": 64}
_TEXT = {**_WIDTH, **_VOCABULARY, **_POSITIONS}
_IMAGE = {**_WIDTH, "image_size": 64, "patch_size": 16}
_DECODER = {**_TEXT, "num_key_value_heads": 2, "pad_token_id": 0}


def _tokens() -> Tensor:
    return torch.randint(2, 128, (2, _TOKENS))


def _mask() -> Tensor:
    mask = torch.ones(2, _TOKENS, dtype=torch.int64)
    mask[1, -5:] = 0
    return mask


def _built(name: str, config: Mapping[str, Any], inputs: Callable[[], Mapping[str, Tensor]], part: str = "Model") -> Built:
    import transformers

    torch.manual_seed(0)
    settings = getattr(transformers, f"{name}Config")(**config)
    settings.use_cache = False
    model: nn.Module = getattr(transformers, f"{name}{part}")(settings).eval()
    return Built(_Outputs(model, tuple(inputs())), tuple(inputs().values()))


class _Outputs(nn.Module):
    """A model that is called with tensors in an order and gives its first output that is a tensor, as people export such models."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        result = self.model(**dict(zip(self.names, inputs, strict=True)))
        found: Tensor = result[0] if not isinstance(result, Tensor) else result
        return found


def _text(name: str, part: str = "Model", **config: Any) -> Callable[[], Built]:
    settings = {**_TEXT, **config}
    return lambda: _built(name, settings, lambda: {"input_ids": _tokens(), "attention_mask": _mask()}, part)


def _decoder(name: str, **config: Any) -> Callable[[], Built]:
    return lambda: _built(name, {**_DECODER, **config}, lambda: {"input_ids": _tokens()}, "ForCausalLM")


def _image(name: str, part: str = "Model", size: int = 64, **config: Any) -> Callable[[], Built]:
    return lambda: _built(name, config, lambda: {"pixel_values": torch.randn(2, 3, size, size)}, part)


class _DecodeStep(nn.Module):
    """One step of a decoder: keys and values so far are inputs, and those with the new token are outputs."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers

    def forward(self, token: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer in range(self.layers):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        result = self.model(input_ids=token, past_key_values=cache, use_cache=True)
        keys = [tensor for layer in result.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return (result.logits, *keys)


def _decode_step() -> Built:
    import transformers

    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**_DECODER)).eval()
    past = [torch.randn(2, 2, _TOKENS, 16) for _ in range(4)]
    return Built(_DecodeStep(model, 2), (_tokens()[:, :1], *past))


_SEQUENCE = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
_FEED_FORWARD = {"encoder_ffn_dim": 128, "decoder_ffn_dim": 128}

_ROWS: Mapping[str, Callable[[], Built]] = {
    "BERT": _text("Bert"),
    "DistilBERT": _text("DistilBert", dim=64, n_layers=2, n_heads=4, hidden_dim=128),
    "RoBERTa": _text("Roberta", pad_token_id=1),
    "MPNet": _text("MPNet", pad_token_id=1),
    "ELECTRA": _text("Electra", embedding_size=32),
    "ALBERT": _text("Albert", embedding_size=32),
    "DeBERTa-v2": _text("DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=32, max_relative_positions=-1),
    "ModernBERT": _text("ModernBert", pad_token_id=0, global_attn_every_n_layers=2, local_attention=8),
    "XLM-RoBERTa": _text("XLMRoberta", pad_token_id=1),
    "CamemBERT": _text("Camembert", pad_token_id=1),
    "FNet": lambda: _built("FNet", {**_TEXT, "tpu_short_seq_length": _TOKENS}, lambda: {"input_ids": _tokens()}),
    "SqueezeBERT": _text("SqueezeBert", embedding_size=64),
    "MobileBERT": _text("MobileBert", embedding_size=32, intra_bottleneck_size=32, true_hidden_size=32),
    "Nomic/RoFormer": _text("RoFormer", embedding_size=64),
    "T5 encoder": lambda: _built(
        "T5",
        {**_VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
        lambda: {"input_ids": _tokens(), "attention_mask": _mask()},
        "EncoderModel",
    ),
    "BERT classification": _text("Bert", "ForSequenceClassification"),
    "GPT-2": lambda: _built(
        "GPT2", {**_VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}, lambda: {"input_ids": _tokens()}, "LMHeadModel"
    ),
    "OPT": _decoder("OPT", ffn_dim=128, word_embed_proj_dim=64),
    "Llama": _decoder("Llama"),
    "Qwen2": _decoder("Qwen2"),
    "Qwen3": _decoder("Qwen3", head_dim=16),
    "Mistral": _decoder("Mistral", sliding_window=8),
    "Gemma2": _decoder("Gemma2", head_dim=16, sliding_window=8),
    "Phi": _decoder("Phi"),
    "Llama, one step": _decode_step,
    "Falcon": _decoder("Falcon", multi_query=True),
    "GPT-NeoX": _decoder("GPTNeoX"),
    "BLOOM": lambda: _built(
        "Bloom", {**_VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4}, lambda: {"input_ids": _tokens()}, "ForCausalLM"
    ),
    "ViT": _image("ViT", **_IMAGE),
    "DeiT": _image("DeiT", **_IMAGE),
    "BEiT": _image("Beit", **_IMAGE, use_relative_position_bias=True),
    "Swin": _image("Swin", image_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4),
    "Swin-v2": _image("Swinv2", image_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4),
    "DINOv2": _image("Dinov2", **{**_IMAGE, "image_size": 56, "patch_size": 14}, size=56),
    "DINOv3": _image("DINOv3ViT", **_IMAGE, num_register_tokens=4),
    "MobileViT": _image(
        "MobileViT", image_size=64, hidden_sizes=[32, 48, 64], neck_hidden_sizes=[8, 16, 24, 32, 48, 64, 96], num_attention_heads=4
    ),
    "SegFormer": _image(
        "Segformer", "ForSemanticSegmentation", hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=32
    ),
    "DPT": _image(
        "DPT",
        "ForDepthEstimation",
        **{**_IMAGE, "num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
    ),
    "YOLOS": _image("Yolos", **{**_IMAGE, "image_size": [64, 64]}, num_detection_tokens=5),
    "ConvNeXt-v2": _image("ConvNextV2", hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], num_stages=4),
    "ResNet": _image("ResNet", embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1]),
    "PVT-v2": _image("PvtV2", hidden_sizes=[16, 32, 40, 64], num_attention_heads=[1, 2, 4, 8], image_size=64),
    "LeViT": _image("Levit", image_size=64, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8]),
    "CLIP vision": lambda: _built(
        "CLIPVision", {**_IMAGE, "projection_dim": 32}, lambda: {"pixel_values": torch.randn(2, 3, 64, 64)}, "ModelWithProjection"
    ),
    "CLIP text": lambda: _built(
        "CLIPText",
        {**_TEXT, "projection_dim": 32, "eos_token_id": 127},
        lambda: {"input_ids": _tokens().clamp(max=126).index_fill(1, torch.tensor([9]), 127)},
        "ModelWithProjection",
    ),
    "SigLIP vision": _image("SiglipVision", **_IMAGE),
    "Whisper encoder": lambda: _whisper(),
    "Wav2Vec2": lambda: _built(
        "Wav2Vec2",
        {
            **_WIDTH,
            "conv_dim": [16, 16],
            "conv_stride": [5, 2],
            "conv_kernel": [10, 3],
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 16,
        },
        lambda: {"input_values": torch.randn(2, 400)},
    ),
    "Audio spectrogram": lambda: _built(
        "AST", {**_WIDTH, "patch_size": 16, "max_length": 64, "num_mel_bins": 32}, lambda: {"input_values": torch.randn(2, 64, 32)}
    ),
    "PatchTST": lambda: _built(
        "PatchTST",
        {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8, "d_model": 32, "num_hidden_layers": 1},
        lambda: {"past_values": torch.randn(2, 32, 3)},
    ),
}


def _whisper() -> Built:
    import transformers

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        **_SEQUENCE, **_FEED_FORWARD, **_VOCABULARY, max_source_positions=32, num_mel_bins=16, pad_token_id=0
    )
    model = transformers.WhisperModel(config).eval().get_encoder()
    return Built(_Outputs(model, ("input_features",)), (torch.randn(2, 16, 64),))


def cases() -> list[Case]:
    """Every row as a case."""
    return [Case("transformers", name, build) for name, build in _ROWS.items()]
