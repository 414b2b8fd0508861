"""Distillation losses: student, teacher, labels in; one value an example out."""

from kdjax.losses.contrastive import clip_affinity as clip_affinity
from kdjax.losses.controls import confidence_weighted as confidence_weighted
from kdjax.losses.controls import label_smoothing as label_smoothing
from kdjax.losses.controls import permute_others as permute_others
from kdjax.losses.controls import teacher_argmax as teacher_argmax
from kdjax.losses.correlations import cka as cka
from kdjax.losses.correlations import dist as dist
from kdjax.losses.correlations import dist_inter as dist_inter
from kdjax.losses.correlations import dist_intra as dist_intra
from kdjax.losses.divergences import adaptive_kl as adaptive_kl
from kdjax.losses.divergences import forward_kl as forward_kl
from kdjax.losses.divergences import reverse_kl as reverse_kl
from kdjax.losses.divergences import symmetric_kl as symmetric_kl
from kdjax.losses.divergences import total_variation as total_variation
from kdjax.losses.features import attention_transfer as attention_transfer
from kdjax.losses.features import (
    attention_transfer_distance as attention_transfer_distance,
)
from kdjax.losses.features import cosine_distance as cosine_distance
from kdjax.losses.features import fsp as fsp
from kdjax.losses.features import hint as hint
from kdjax.losses.features import nst as nst
from kdjax.losses.features import pkd as pkd
from kdjax.losses.features import vid as vid
from kdjax.losses.logits import centered_logit_mse as centered_logit_mse
from kdjax.losses.logits import cross_entropy as cross_entropy
from kdjax.losses.logits import hinton as hinton
from kdjax.losses.logits import logit_mse as logit_mse
from kdjax.losses.logits import soft_kl as soft_kl
from kdjax.losses.logits import standardize as standardize
from kdjax.losses.logits import uld as uld
from kdjax.losses.mixtures import jensen_shannon as jensen_shannon
from kdjax.losses.mixtures import normalized_jensen_shannon as normalized_jensen_shannon
from kdjax.losses.mixtures import skew_forward_kl as skew_forward_kl
from kdjax.losses.mixtures import skew_reverse_kl as skew_reverse_kl
from kdjax.losses.relations import gram_correlation as gram_correlation
from kdjax.losses.relations import pkt as pkt
from kdjax.losses.relations import rkd_angle as rkd_angle
from kdjax.losses.relations import rkd_distance as rkd_distance
from kdjax.losses.relations import similarity_preserving as similarity_preserving
from kdjax.losses.targets import dkd as dkd
from kdjax.losses.targets import nckd as nckd
from kdjax.losses.targets import nkd as nkd
from kdjax.losses.targets import tckd as tckd
