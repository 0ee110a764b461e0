"""Distillation: one loss between teacher and student per file, the objective that weighs them, and what is compared."""

from edgefold.distillation.attention_maps import attention_loss
from edgefold.distillation.captures import captured_outputs
from edgefold.distillation.contrastive import info_nce, labelled_contrast
from edgefold.distillation.cosine import cosine_loss
from edgefold.distillation.hidden_states import hidden_loss
from edgefold.distillation.layer_maps import map_layers
from edgefold.distillation.logits import logits_loss, logits_of
from edgefold.distillation.masking import token_mask
from edgefold.distillation.objectives import Contrast, Objective
from edgefold.distillation.pooling import pool
from edgefold.distillation.relations import relation_loss
from edgefold.distillation.tokenizer_agreement import check_tokenizers

__all__ = [
    "Contrast",
    "Objective",
    "attention_loss",
    "captured_outputs",
    "check_tokenizers",
    "cosine_loss",
    "hidden_loss",
    "info_nce",
    "labelled_contrast",
    "logits_loss",
    "logits_of",
    "map_layers",
    "pool",
    "relation_loss",
    "token_mask",
]
