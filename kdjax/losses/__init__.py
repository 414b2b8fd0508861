"""Distillation losses: student, teacher, labels in; one value an example out."""

from kdjax.losses.divergences import forward_kl as forward_kl
from kdjax.losses.divergences import jensen_shannon as jensen_shannon
from kdjax.losses.divergences import (
    normalized_jensen_shannon as normalized_jensen_shannon,
)
from kdjax.losses.divergences import reverse_kl as reverse_kl
from kdjax.losses.divergences import skew_forward_kl as skew_forward_kl
from kdjax.losses.divergences import skew_reverse_kl as skew_reverse_kl
from kdjax.losses.divergences import tempered_forward_kl as tempered_forward_kl
from kdjax.losses.divergences import total_variation as total_variation
from kdjax.losses.logits import centered_logit_mse as centered_logit_mse
from kdjax.losses.logits import cross_entropy as cross_entropy
from kdjax.losses.logits import hinton as hinton
from kdjax.losses.logits import label_smoothing as label_smoothing
from kdjax.losses.logits import logit_mse as logit_mse
from kdjax.losses.logits import soft_kl as soft_kl
from kdjax.losses.logits import teacher_argmax as teacher_argmax
