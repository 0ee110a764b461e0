"""Some sixty families of transformers, tiny and random, that nothing in edgefold names: classes, inputs and sizes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Fields = dict[str, Any]
TEXT: Fields = {
    **{"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40},
    **{"vocab_size": 101, "max_position_embeddings": 64},
}
DECODER: Fields = {
    **TEXT,
    **{"num_attention_heads": 6, "num_key_value_heads": 3, "use_cache": False},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
IMAGE: Fields = {
    **{"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40},
    **{"image_size": 16, "patch_size": 4, "num_channels": 3},
}
WAVE: Fields = {
    **{"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 32},
    **{"conv_dim": [16, 16], "conv_stride": [5, 4], "conv_kernel": [10, 4], "num_feat_extract_layers": 2},
    **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16},
}
SIDES: Fields = {
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 3 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 40 for side in ("encoder", "decoder")},
    **{"d_model": 24, "vocab_size": 101, "use_cache": False},
}
PYRAMID: Fields = {
    **{"num_encoder_blocks": 2, "depths": [1, 1], "hidden_sizes": [8, 16], "num_attention_heads": [1, 2]},
    **{"patch_sizes": [7, 3], "strides": [4, 2], "sr_ratios": [2, 1], "mlp_ratios": [2, 2]},
}


@dataclass(frozen=True)
class Family:
    """A class of transformers, what it reads, and the sizes that its configuration gets."""

    model: str
    reads: str
    fields: Fields


def make_model(family: Family) -> nn.Module:
    """In evaluation mode, every parameter moved a little: biases and norms begin as zeros and ones."""
    import transformers

    torch.manual_seed(0)
    model_class: Any = getattr(transformers, family.model)
    model: nn.Module = model_class(model_class.config_class(**family.fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def make_inputs(reads: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 96, (3, 8), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    text = {"input_ids": ids, "attention_mask": mask}
    boxes = torch.randint(0, 60, (3, 8, 4), generator=generator).sort(-1).values

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "text": text,
        "ids": {"input_ids": ids},
        "seq2seq": {**text, "decoder_input_ids": ids.flip(1)},
        "image": {"pixel_values": noise(2, 3, 16, 16)},
        "image32": {"pixel_values": noise(2, 3, 32, 32)},
        "wave": {"input_values": noise(2, 800)},
        "ast": {"input_values": noise(2, 16, 16)},
        "whisper": {"input_features": noise(2, 8, 40), "decoder_input_ids": ids[:2, :6]},
        "moonshine": {"input_values": noise(2, 2000), "decoder_input_ids": ids[:2, :6]},
        "clip": {name: value[:2] for name, value in text.items()} | {"pixel_values": noise(2, 3, 16, 16)},
        "series": {"past_values": noise(2, 16, 2)},
        "layout": {**text, "bbox": boxes},
    }[reads]


FAMILIES = {
    "modernbert": Family(
        "ModernBertForSequenceClassification",
        "text",
        {**TEXT, "pad_token_id": 0, "global_attn_every_n_layers": 2, "local_attention": 4},
    ),
    "deberta_v2": Family(
        "DebertaV2ForSequenceClassification",
        "text",
        {
            **TEXT,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
        },
    ),
    "deberta": Family(
        "DebertaForSequenceClassification",
        "text",
        {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 16},
    ),
    "mpnet": Family("MPNetForSequenceClassification", "text", {**TEXT}),
    "xlnet": Family(
        "XLNetForSequenceClassification",
        "text",
        {"vocab_size": 101, "d_model": 24, "n_layer": 2, "n_head": 3, "d_inner": 40},
    ),
    "mobilebert": Family(
        "MobileBertForSequenceClassification",
        "text",
        {
            **TEXT,
            "num_attention_heads": 4,
            "intra_bottleneck_size": 24,
            "true_hidden_size": 24,
            "embedding_size": 24,
            "num_feedforward_networks": 2,
        },
    ),
    "squeezebert": Family(
        "SqueezeBertForSequenceClassification",
        "text",
        {
            **TEXT,
            "num_attention_heads": 4,
            "embedding_size": 24,
            "q_groups": 2,
            "k_groups": 2,
            "v_groups": 2,
            "post_attention_groups": 1,
            "intermediate_groups": 2,
            "output_groups": 2,
        },
    ),
    "roformer": Family("RoFormerForSequenceClassification", "text", {**TEXT, "embedding_size": 24}),
    "convbert": Family(
        "ConvBertForSequenceClassification",
        "text",
        {**TEXT, "num_attention_heads": 4, "embedding_size": 24, "head_ratio": 2, "conv_kernel_size": 3},
    ),
    "funnel": Family(
        "FunnelForSequenceClassification",
        "text",
        {"vocab_size": 101, "block_sizes": [1, 1], "d_model": 24, "n_head": 3, "d_head": 8, "d_inner": 40},
    ),
    "bloom": Family(
        "BloomForCausalLM",
        "text",
        {"vocab_size": 101, "hidden_size": 24, "n_layer": 2, "n_head": 3, "use_cache": False},
    ),
    "opt": Family(
        "OPTForCausalLM",
        "text",
        {
            "vocab_size": 101,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "ffn_dim": 40,
            "num_attention_heads": 3,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 24,
            "use_cache": False,
        },
    ),
    "gpt_neox": Family("GPTNeoXForCausalLM", "text", {**TEXT, "use_cache": False}),
    "gptj": Family(
        "GPTJForCausalLM",
        "text",
        {
            "vocab_size": 101,
            "n_positions": 64,
            "n_embd": 24,
            "n_layer": 2,
            "n_head": 3,
            "rotary_dim": 4,
            "use_cache": False,
        },
    ),
    "falcon": Family(
        "FalconForCausalLM",
        "text",
        {
            "vocab_size": 101,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "new_decoder_architecture": False,
            "multi_query": True,
            "parallel_attn": True,
            "use_cache": False,
        },
    ),
    "qwen2": Family("Qwen2ForCausalLM", "text", {**DECODER}),
    "qwen3": Family("Qwen3ForCausalLM", "text", {**DECODER, "head_dim": 8}),
    "gemma2": Family("Gemma2ForCausalLM", "text", {**DECODER, "head_dim": 8, "sliding_window": 4}),
    "gemma3": Family("Gemma3ForCausalLM", "text", {**DECODER, "head_dim": 8, "sliding_window": 4}),
    "phi": Family("PhiForCausalLM", "text", {**TEXT, "use_cache": False}),
    "phi3": Family("Phi3ForCausalLM", "text", {**DECODER}),
    "olmo2": Family("Olmo2ForCausalLM", "text", {**DECODER}),
    "granite": Family("GraniteForCausalLM", "text", {**DECODER}),
    "cohere": Family("CohereForCausalLM", "text", {**DECODER}),
    "smollm3": Family("SmolLM3ForCausalLM", "text", {**DECODER}),
    "stablelm": Family("StableLmForCausalLM", "text", {**DECODER}),
    "starcoder2": Family("Starcoder2ForCausalLM", "text", {**DECODER}),
    "mixtral": Family("MixtralForCausalLM", "text", {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM",
        "text",
        {
            **DECODER,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 20,
            "decoder_sparse_step": 1,
        },
    ),
    "qwen2_moe": Family(
        "Qwen2MoeForCausalLM",
        "text",
        {
            **DECODER,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 20,
            "shared_expert_intermediate_size": 28,
            "decoder_sparse_step": 1,
        },
    ),
    "olmoe": Family("OlmoeForCausalLM", "text", {**DECODER, "num_experts": 4, "num_experts_per_tok": 2}),
    "granitemoe": Family(
        "GraniteMoeForCausalLM", "text", {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    "gpt_oss": Family(
        "GptOssForCausalLM",
        "text",
        {**DECODER, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4},
    ),
    "deepseek_v3": Family(
        "DeepseekV3ForCausalLM",
        "text",
        {
            **DECODER,
            "num_key_value_heads": 6,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 20,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 12,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
        },
    ),
    "mamba": Family(
        "MambaForCausalLM",
        "ids",
        {"vocab_size": 101, "hidden_size": 24, "state_size": 4, "num_hidden_layers": 2, "use_cache": False},
    ),
    "mamba2": Family(
        "Mamba2ForCausalLM",
        "ids",
        {
            "vocab_size": 101,
            "hidden_size": 24,
            "state_size": 8,
            "num_hidden_layers": 2,
            "num_heads": 6,
            "head_dim": 8,
            "n_groups": 2,
            "chunk_size": 4,
            "use_cache": False,
        },
    ),
    "lfm2": Family(
        "Lfm2ForCausalLM", "text", {**DECODER, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8}
    ),
    "bart": Family(
        "BartForConditionalGeneration",
        "seq2seq",
        {**SIDES, "max_position_embeddings": 64},
    ),
    "pegasus": Family(
        "PegasusForConditionalGeneration",
        "seq2seq",
        {**SIDES, "max_position_embeddings": 64},
    ),
    "m2m100": Family(
        "M2M100ForConditionalGeneration",
        "seq2seq",
        {**SIDES, "max_position_embeddings": 64},
    ),
    "mt5": Family(
        "MT5ForConditionalGeneration",
        "seq2seq",
        {"vocab_size": 101, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3, "use_cache": False},
    ),
    "deit": Family("DeiTForImageClassification", "image", {**IMAGE}),
    "beit": Family("BeitForImageClassification", "image", {**IMAGE, "use_relative_position_bias": True}),
    "dinov2": Family("Dinov2ForImageClassification", "image", {**IMAGE, "mlp_ratio": 2}),
    "swin": Family(
        "SwinForImageClassification",
        "image",
        {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    ),
    "convnext": Family(
        "ConvNextForImageClassification",
        "image",
        {"num_channels": 3, "patch_size": 2, "num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1]},
    ),
    "convnextv2": Family(
        "ConvNextV2ForImageClassification",
        "image",
        {"num_channels": 3, "patch_size": 2, "num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1]},
    ),
    "mobilevit": Family(
        "MobileViTForImageClassification",
        "image32",
        {
            "image_size": 32,
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
            "num_attention_heads": 4,
        },
    ),
    "segformer": Family(
        "SegformerForImageClassification",
        "image32",
        PYRAMID,
    ),
    "regnet": Family(
        "RegNetForImageClassification",
        "image32",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4},
    ),
    "mobilenet_v2": Family("MobileNetV2ForImageClassification", "image32", {"depth_multiplier": 0.25}),
    "levit": Family(
        "LevitForImageClassification",
        "image32",
        {
            "image_size": 32,
            "num_channels": 3,
            "patch_size": 16,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
    ),
    "pvt_v2": Family(
        "PvtV2ForImageClassification",
        "image32",
        {**PYRAMID, "image_size": 32},
    ),
    "poolformer": Family(
        "PoolFormerForImageClassification",
        "image32",
        {
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "padding": [2, 1],
            "num_encoder_blocks": 2,
            "mlp_ratio": 2.0,
        },
    ),
    "wav2vec2": Family("Wav2Vec2ForCTC", "wave", {**WAVE}),
    "hubert": Family("HubertForSequenceClassification", "wave", {**WAVE}),
    "wavlm": Family("WavLMForSequenceClassification", "wave", {**WAVE, "num_buckets": 16, "max_bucket_distance": 32}),
    "ast": Family(
        "ASTForAudioClassification",
        "ast",
        {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 40,
            "patch_size": 4,
            "max_length": 16,
            "num_mel_bins": 16,
            "frequency_stride": 4,
            "time_stride": 4,
        },
    ),
    "whisper": Family(
        "WhisperForConditionalGeneration",
        "whisper",
        {
            **SIDES,
            "max_source_positions": 20,
            "max_target_positions": 32,
            "num_mel_bins": 8,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 3,
            "use_cache": False,
        },
    ),
    "moonshine": Family(
        "MoonshineForConditionalGeneration",
        "moonshine",
        {
            "vocab_size": 101,
            "hidden_size": 24,
            "intermediate_size": 40,
            "encoder_num_hidden_layers": 1,
            "decoder_num_hidden_layers": 1,
            "encoder_num_attention_heads": 3,
            "decoder_num_attention_heads": 3,
            "use_cache": False,
        },
    ),
    "clip": Family(
        "CLIPModel",
        "clip",
        {
            "text_config": {**TEXT, "projection_dim": 16},
            "vision_config": {**IMAGE, "projection_dim": 16},
            "projection_dim": 16,
        },
    ),
    "siglip": Family(
        "SiglipModel", "clip", {"text_config": {**TEXT, "projection_size": 24}, "vision_config": {**IMAGE}}
    ),
    "patchtst": Family(
        "PatchTSTForPrediction",
        "series",
        {
            "num_input_channels": 2,
            "context_length": 16,
            "patch_length": 4,
            "patch_stride": 4,
            "d_model": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "ffn_dim": 40,
            "prediction_length": 4,
        },
    ),
    "layoutlm": Family("LayoutLMForTokenClassification", "layout", {**TEXT, "max_2d_position_embeddings": 64}),
    "bigbird": Family("BigBirdForSequenceClassification", "text", {**TEXT, "attention_type": "original_full"}),
    "longformer": Family("LongformerForSequenceClassification", "text", {**TEXT, "attention_window": 4}),
    "detr": Family(
        "DetrForObjectDetection",
        "image32",
        {
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_config": {
                "model_type": "resnet",
                "embedding_size": 8,
                "hidden_sizes": [8, 16],
                "depths": [1, 1],
                "layer_type": "basic",
                "out_features": ["stage2"],
            },
            "num_queries": 5,
            "d_model": 24,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 40,
            "encoder_attention_heads": 3,
            "decoder_attention_heads": 3,
        },
    ),
}
"""By the name of its module in transformers, or near it."""
