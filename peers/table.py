"""Writes ``kdjax/losses/README.md``: every loss and every convention, on one page.

    python -m peers.table

From the docstrings, from `kdjax.losses.conventions`, and from ``peers/values.json``.
"""

from collections import defaultdict
from importlib import import_module
import inspect
import json
from pathlib import Path
import re

from kdjax import losses
from kdjax.losses import conventions

ROOT = Path(__file__).parents[1]
README = ROOT / "kdjax/losses/README.md"
MODULES = (
    "divergences",
    "skew_and_js",
    "alpha_and_renyi",
    "sparse",
    "logits",
    "decoupled",
    "corrected",
    "baselines",
    "features",
    "feature_maps",
    "attention",
    "transformers",
    "relations",
    "correlations",
    "contrastive",
    "sequences",
    "on_policy",
    "kl_estimates",
    "speculative",
)
# Systems that have a loss, too, but are not run here: they publish no package, or the
# loss cannot be called on its own.
ALSO = {
    "forward_kl": ("DistillM-2", "DistillKit", "MaxText"),
    "reverse_kl": ("DistillM", "DistillM-2"),
    "soft_kl": ("mdistiller", "RepDistiller", "big_vision", "EasyDeL"),
    "skew_forward_kl": ("DistillM", "DistillM-2"),
    "skew_reverse_kl": ("DistillM", "DistillM-2"),
    "jensen_shannon": ("DistillM", "DistillM-2", "DistillKit", "EasyDeL"),
    "total_variation": ("DistillM", "DistillKit"),
    "tail_bucket": ("DistillKit",),
    "top_k": ("MaxText", "modelopt", "DistillKit", "EasyDeL"),
    "dkd": ("mdistiller",),
    "hierarchical_context": ("mdistiller",),
    "clipped_policy_loss": ("LMOps", "TRL"),
    "whiten": ("LMOps", "TRL"),
    "adaptive_skew": ("DistillM-2",),
    "tckd": ("mdistiller",),
    "nckd": ("mdistiller",),
    "nkd": ("cls_KD",),
    "uld": ("TRL (GOLD)",),
    "hint": ("mdistiller", "RepDistiller"),
    "attention_transfer": ("mdistiller", "RepDistiller"),
    "fsp": ("RepDistiller",),
    "nst": ("mdistiller", "RepDistiller"),
    "vid": ("RepDistiller",),
    "factor_transfer": ("RepDistiller",),
    "rkd_distance": ("mdistiller", "RepDistiller"),
    "rkd_angle": ("mdistiller", "RepDistiller"),
    "similarity_preserving": ("mdistiller", "RepDistiller"),
    "pkt": ("mdistiller", "RepDistiller"),
    "consecutive_correlation": ("RepDistiller",),
    "crd_with_memory": ("RepDistiller",),
    "clip_affinity": ("TinyCLIP",),
    "attention_mse": ("TinyBERT",),
    "hidden_mse": ("TinyBERT",),
    "adaptive_kl": ("AKL", "DSKD"),
    "mean_reward_to_go": ("LMOps",),
    "medusa": ("Medusa",),
    "eagle": ("EAGLE",),
    "eagle3": ("EAGLE",),
    "sequence_mean": ("DistillM-2",),
    "token_mean": ("TRL", "DistillM", "DistillKit"),
}
HEAD = """\
# The losses

Written by `python -m peers.table`. In formulas, p is the teacher and q the student.
`make peers` runs the systems in bold, and value and gradient agree with theirs; the
other systems have the loss, too, but no package to run. `help(losses.hinton)` says what
a loss takes and returns.

## What a loss takes

All losses follow the same rules. Types and shapes are checked in
[`checks.py`](checks.py) while a program is traced, which costs nothing once it is
compiled; an error names the argument, what it got and what it takes.

- **Logits** are floating, `[..., C]`, classes last. Losses compute in float32 or wider.
- **Labels** (and `tokens`) are integers in exactly the leading shape of the logits: not
  one-hot, not `[B, 1]`, not floats. A label outside `[0, C)`, such as -1 or -100, means
  that the example has none: terms with the label are 0, without a gradient, and are
  left out of any mean that the loss takes. Other terms stay, such as `soft_kl` in
  `hinton`. Where every term needs the label, as in `dkd`, the example gives 0.
- **Hyperparameters** are scalars, and may be traced. For one temperature an example,
  use `jax.vmap`.
- **Masks** are booleans or integers, where 0 means left out; floats are refused. They
  broadcast to what they mask by NumPy's rules, before anything is counted. `class_mask`
  marks the classes that exist, `mask` the tokens that count. A text without tokens
  gives 0; losses and conventions that average over texts leave it out.
- **Masked logits.** A class whose logit is `-inf`, or below -1e30, has probability 0.
  Finite masks, such as -1e9 or float16's least number, -65504, are ordinary logits
  here. To treat them as masks: `jnp.where(logits < -1e4, -jnp.inf, logits)`.
- **A row without any class**, for instance all `-inf`, on either side: terms with that
  row are 0, and no other example changes. NaN in a row gives NaN for that example
  alone, unless the loss relates the examples of a batch.
- **Feature maps** are `[B, H, W, C]`, channels last. Only rank and size can be checked:
  for channels first, use `jnp.moveaxis(x, 1, -1)`.
"""
CONVENTIONS = """\

# Conventions of other systems

`conventions.loss(name, student_logits, teacher_logits, ...)` gives the number that a
system logs. The last column names the package that was run; where there is none to run,
`tests/test_peers.py` has the formula of the system's code.

"Alpha" is the system's own: in some it weights the teacher, in others the labels.

| preset | divergence | entropy | T² | support | average | alpha weighs | peer |
|---|---|---|---|---|---|---|---|
"""


def summary(doc: str) -> str:
    line = doc.split("\n\n")[0].replace("\n", " ")
    return " ".join(re.sub(r":math:`(.+?)`", r"$\1$", line).split())


def formula(doc: str) -> str:
    """The first formula, unless the summary is one, on one line."""
    if "$" in summary(doc):
        return ""
    block = re.search(r"\.\. math:: (.+?)\n\n", doc, re.DOTALL)
    return f"${' '.join(block.group(1).split())}$" if block else ""


def source(doc: str) -> str:
    """Authors, the linked title, and the year of the first reference."""
    text = " ".join(doc.partition("References:\n")[2].split())
    found = re.match(r"(.+?), `(.+?) <(.+?)>`_, (\d{4})", text)
    if not found:
        return ""
    authors, title, link, year = found.groups()
    return f"{authors} {year}, [{title}]({link})"


def systems() -> dict[str, list[str]]:
    """For each loss those that were run, in bold, and the others."""
    peers = json.loads((ROOT / "peers/values.json").read_text()).values()
    found = defaultdict(dict)
    for record in peers:
        found[record["loss"]][f"**{record['package']}**"] = None
    for name, others in ALSO.items():
        found[name] |= dict.fromkeys(others)
    return {name: list(there) for name, there in found.items()}


def escape(cell: str) -> str:
    return cell.replace(r"\|", r"\Vert ").replace("|", r"\vert ")


def loss_rows() -> str:
    lines, found = [], systems()
    for name in MODULES:
        module = import_module(f"kdjax.losses.{name}")
        lines += [
            f"\n## [{name}]({name}.py)\n\n{summary(inspect.getdoc(module))}\n",
            "| loss | what | formula | source | systems |\n|---|---|---|---|---|",
        ]
        for loss, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ != module.__name__ or loss.startswith("_"):
                continue
            doc = inspect.getdoc(function)
            cells = (
                summary(doc),
                formula(doc),
                source(doc),
                ", ".join(found.get(loss, ())),
            )
            lines.append(f"| `{loss}` | " + " | ".join(map(escape, cells)) + " |")
    return "\n".join(lines) + "\n"


def convention_rows() -> str:
    peers = json.loads((ROOT / "peers/values.json").read_text())
    lines = []
    for name, c in conventions.PRESETS.items():
        run = [r for n, r in peers.items() if n.startswith(name.split("_")[0])]
        cells = (
            f"`{name}`",
            c.divergence.__name__,
            "left in" if c.entropy else "",
            "×" if c.squared_temperature else "",
            c.support.__name__ if c.support else "",
            c.average.__name__,
            c.alpha_weighs or dict(c.names).get("alpha", ""),
            f"{run[0]['package']} {run[0]['version']}" if run else "formula",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page() -> str:
    listed = {
        name
        for module in MODULES
        for name in dir(import_module(f"kdjax.losses.{module}"))
    }
    missing = {n for n, f in vars(losses).items() if callable(f)} - listed
    assert not missing, f"not in any module of the table: {sorted(missing)}"
    return HEAD + loss_rows() + CONVENTIONS + convention_rows()


if __name__ == "__main__":
    README.write_text(page())
    print(f"wrote {README}")
