"""The losses: student, teacher and labels in, one value per example out.

``README.md`` lists them with formulas, sources and the other systems that have them.
"""

# Alpha and Rényi divergences, which are forward KL at 1.
from kdjax.losses.alpha_and_renyi import alpha_divergence as alpha_divergence
from kdjax.losses.alpha_and_renyi import renyi_divergence as renyi_divergence

# Losses on hidden states, attention and token relations of transformers.
from kdjax.losses.attention import attention_cross_entropy as attention_cross_entropy
from kdjax.losses.attention import attention_kl as attention_kl
from kdjax.losses.attention import attention_mse as attention_mse
from kdjax.losses.attention import hidden_mse as hidden_mse
from kdjax.losses.attention import relation_kl as relation_kl

# Controls that leave out a part of what the teacher predicts.
from kdjax.losses.baselines import confidence_weighted as confidence_weighted
from kdjax.losses.baselines import label_smoothing as label_smoothing
from kdjax.losses.baselines import permute_others as permute_others
from kdjax.losses.baselines import teacher_argmax as teacher_argmax

# Contrastive losses: the right pair against all other pairs.
from kdjax.losses.contrastive import Memory as Memory
from kdjax.losses.contrastive import clip_affinity as clip_affinity
from kdjax.losses.contrastive import crd as crd
from kdjax.losses.contrastive import crd_memory as crd_memory
from kdjax.losses.contrastive import crd_with_memory as crd_with_memory

# Losses with a teacher that is corrected by the labels.
from kdjax.losses.corrected import mft as mft

# Losses of the form one minus a correlation: DIST and CKA.
from kdjax.losses.correlations import cka as cka
from kdjax.losses.correlations import dist as dist
from kdjax.losses.correlations import dist_inter as dist_inter
from kdjax.losses.correlations import dist_intra as dist_intra

# Losses that treat the label's class and the other classes differently.
from kdjax.losses.decoupled import dkd as dkd
from kdjax.losses.decoupled import nckd as nckd
from kdjax.losses.decoupled import nkd as nkd
from kdjax.losses.decoupled import tckd as tckd

# Divergences between two categorical distributions given as logits.
from kdjax.losses.divergences import adaptive_kl as adaptive_kl
from kdjax.losses.divergences import cakld as cakld
from kdjax.losses.divergences import forward_kl as forward_kl
from kdjax.losses.divergences import reverse_kl as reverse_kl
from kdjax.losses.divergences import symmetric_kl as symmetric_kl
from kdjax.losses.divergences import total_variation as total_variation

# Losses on feature maps of convolutional networks.
from kdjax.losses.feature_maps import attention_transfer as attention_transfer
from kdjax.losses.feature_maps import (
    attention_transfer_distance as attention_transfer_distance,
)
from kdjax.losses.feature_maps import fsp as fsp
from kdjax.losses.feature_maps import hierarchical_context as hierarchical_context
from kdjax.losses.feature_maps import (
    inter_channel_correlation as inter_channel_correlation,
)
from kdjax.losses.feature_maps import nst as nst

# Losses on hidden activations, one vector or array per example.
from kdjax.losses.features import cosine_distance as cosine_distance
from kdjax.losses.features import factor_transfer as factor_transfer
from kdjax.losses.features import hint as hint
from kdjax.losses.features import pkd as pkd
from kdjax.losses.features import vid as vid

# Estimates of reverse KL from one token that the student drew.
from kdjax.losses.kl_estimates import reverse_kl_k1 as reverse_kl_k1
from kdjax.losses.kl_estimates import reverse_kl_k2 as reverse_kl_k2
from kdjax.losses.kl_estimates import reverse_kl_k3 as reverse_kl_k3

# Losses on a classifier's logits, with or without labels.
from kdjax.losses.logits import centered_logit_mse as centered_logit_mse
from kdjax.losses.logits import cross_entropy as cross_entropy
from kdjax.losses.logits import hinton as hinton
from kdjax.losses.logits import logit_mse as logit_mse
from kdjax.losses.logits import soft_kl as soft_kl
from kdjax.losses.logits import standardize as standardize
from kdjax.losses.logits import uld as uld

# Learning from texts that the student wrote: MiniLLM and its parts.
from kdjax.losses.on_policy import clipped_policy_loss as clipped_policy_loss
from kdjax.losses.on_policy import importance_weights as importance_weights
from kdjax.losses.on_policy import mean_reward_to_go as mean_reward_to_go
from kdjax.losses.on_policy import minillm as minillm
from kdjax.losses.on_policy import reward_to_go as reward_to_go
from kdjax.losses.on_policy import sampled_log_ratio as sampled_log_ratio
from kdjax.losses.on_policy import whiten as whiten

# Relational losses: over pairs and triples of the examples in a batch.
from kdjax.losses.relations import consecutive_correlation as consecutive_correlation
from kdjax.losses.relations import gaussian_correlation as gaussian_correlation
from kdjax.losses.relations import gram_correlation as gram_correlation
from kdjax.losses.relations import pkt as pkt
from kdjax.losses.relations import rkd_angle as rkd_angle
from kdjax.losses.relations import rkd_distance as rkd_distance
from kdjax.losses.relations import similarity_preserving as similarity_preserving

# Sequences: means over tokens, and losses on whole texts.
from kdjax.losses.sequences import gkd as gkd
from kdjax.losses.sequences import global_token_mean as global_token_mean
from kdjax.losses.sequences import sequence_mean as sequence_mean
from kdjax.losses.sequences import sequence_nll as sequence_nll
from kdjax.losses.sequences import token_mean as token_mean

# Divergences from a mixture of both distributions, which bounds them.
from kdjax.losses.skew_and_js import adaptive_skew as adaptive_skew
from kdjax.losses.skew_and_js import jensen_shannon as jensen_shannon
from kdjax.losses.skew_and_js import likelihood_gap as likelihood_gap
from kdjax.losses.skew_and_js import (
    normalized_jensen_shannon as normalized_jensen_shannon,
)
from kdjax.losses.skew_and_js import skew_forward_kl as skew_forward_kl
from kdjax.losses.skew_and_js import skew_reverse_kl as skew_reverse_kl

# Sparse teachers: the top-k classes, or a sample of classes.
from kdjax.losses.sparse import Sampled as Sampled
from kdjax.losses.sparse import from_top_k as from_top_k
from kdjax.losses.sparse import sample_logits as sample_logits
from kdjax.losses.sparse import sampled_kl as sampled_kl
from kdjax.losses.sparse import tail_bucket as tail_bucket
from kdjax.losses.sparse import top_k as top_k

# Speculative decoding: acceptance rate, speed-up, and losses for draft models.
from kdjax.losses.speculative import acceptance_rate as acceptance_rate
from kdjax.losses.speculative import eagle as eagle
from kdjax.losses.speculative import eagle3 as eagle3
from kdjax.losses.speculative import expected_speedup as expected_speedup
from kdjax.losses.speculative import expected_tokens as expected_tokens
from kdjax.losses.speculative import medusa as medusa
from kdjax.losses.speculative import negative_log_acceptance as negative_log_acceptance

# Complete losses of BERT distillation papers, made of `kdjax.losses.attention`.
from kdjax.losses.transformers import distilbert as distilbert
from kdjax.losses.transformers import minilm as minilm
from kdjax.losses.transformers import minilm_v2 as minilm_v2
from kdjax.losses.transformers import tinybert as tinybert
