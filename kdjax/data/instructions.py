"""Instructions to evaluate language models on, as in MiniLLM, and others to learn."""

from collections.abc import Callable
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from kdjax import files


class Instructions(NamedTuple):
    """What people asked, and the answers of people where they are known."""

    prompts: list[str]
    answers: list[str | None]


def load() -> dict[str, Instructions]:
    """Four sets: ``seeds`` (175) to learn from, and others to evaluate on.

    These are ``self_instruct`` (252), ``vicuna`` (80, without answers) and ``dolly``
    (151). All are in the folder ``$KDJAX_INSTRUCTIONS``, or ``data`` in the cache.

    Raises:
      FileNotFoundError: if a file is missing, saying where it comes from.
      ValueError: naming a file that has not as many instructions as it should.

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, section 3.
    """
    return {name: _opened(*each) for name, each in _FILES.items()}


def _opened(
    file: str, count: int, read: Callable[[Any], tuple[str, str | None]], source: str
) -> Instructions:
    path = Path(os.environ.get("KDJAX_INSTRUCTIONS") or files.cache("data")) / file
    if not path.is_file():
        raise FileNotFoundError(
            f"the instructions are not in {path}: download {source} to a folder, as "
            f"{file}, and set KDJAX_INSTRUCTIONS to it"
        )
    lines = [line for line in path.read_text("utf-8").split("\n") if line]
    if len(lines) != count:
        raise ValueError(f"{path} has {len(lines)} instructions, but takes {count}")
    prompts, answers = zip(*(read(json.loads(line)) for line in lines), strict=True)
    return Instructions(list(prompts), list(answers))


def _of_self_instruct(row: Any) -> tuple[str, str | None]:
    first = row["instances"][0]
    prompt = "\n\n".join(part for part in (row["instruction"], first["input"]) if part)
    return prompt.strip(), first["output"].strip()


def _of_vicuna(row: Any) -> tuple[str, str | None]:
    return row["turns"][0].strip(), None


def _of_dolly(row: Any) -> tuple[str, str | None]:
    """Without the headings of its parts, and the mark after the answer."""
    prompt = row["prompt"].partition("### Instruction:\n")[2]
    prompt = prompt.rpartition("### Response:")[0].replace("### Input:\n", "")
    return prompt.strip(), row["answer"].removesuffix("###eos_token###").strip()


_SELF_INSTRUCT = "github.com/yizhongw/self-instruct"
_FILES = {
    "seeds": (
        *("seed_tasks.jsonl", 175, _of_self_instruct),
        f"data/seed_tasks.jsonl of {_SELF_INSTRUCT}",
    ),
    "self_instruct": (
        *("user_oriented_instructions.jsonl", 252, _of_self_instruct),
        f"human_eval/user_oriented_instructions.jsonl of {_SELF_INSTRUCT}",
    ),
    "vicuna": (
        *("vicuna_questions.jsonl", 80, _of_vicuna),
        "fastchat/llm_judge/data/vicuna_bench/question.jsonl of "
        "github.com/lm-sys/FastChat",
    ),
    "dolly": (
        *("dolly_151.jsonl", 151, _of_dolly),
        "data/dolly.jsonl of github.com/ANTI-Tony/triforce-reproduce",
    ),
}
