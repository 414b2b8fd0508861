"""Multi30k is read from its own files, which have to be whole."""

import gzip
import os
from pathlib import Path
import shutil

import pytest

from experiments.language import translation as experiment
from kdjax import results
from kdjax.data import translation
from kdjax.study import command
from tests.published import SHARED

FOLDER = Path(os.environ.get("KDJAX_MULTI30K", SHARED / "text/multi30k"))
needs_it = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs KDJAX_MULTI30K")


@needs_it
def test_sentences_have_their_translations(monkeypatch, tmp_path):
    monkeypatch.setenv("KDJAX_MULTI30K", str(FOLDER))
    splits, info = translation.load()
    assert (info.train, info.validation, info.test) == (29_000, 1014, 1000)
    first = splits["train"]
    assert first.german[0].startswith("Zwei junge weiße Männer sind im Freien")
    assert first.english[0] == "Two young, White males are outside near many bushes."
    assert all(
        p.english[-1] and len(p.english) == len(p.german) for p in splits.values()
    )
    for path in FOLDER.glob("*.gz"):
        shutil.copy(path, tmp_path)
    monkeypatch.setenv("KDJAX_MULTI30K", str(tmp_path))
    whole = gzip.compress(b"one\ntwo\n")
    (tmp_path / "val.en.gz").write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="val.en.gz is damaged or cut short"):
        translation.load()
    (tmp_path / "val.en.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    with pytest.raises(ValueError, match=r"val.en.gz has 2 sentences, but takes 1014"):
        translation.load()


def test_a_user_is_told_where_the_files_come_from(monkeypatch, tmp_path):
    monkeypatch.setenv("KDJAX_MULTI30K", str(tmp_path))
    says = r"train.de.gz: download data/task1/raw/train.de.gz of github.com/multi30k"
    with pytest.raises(FileNotFoundError, match=says):
        translation.load()


def test_a_directory_of_data_is_refused_in_a_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    with pytest.raises(SystemExit, match="2"):
        command.main(experiment.STUDY, ["--quick", "--data-dir", "there"])
    assert "data_dir is 'there', but Multi30k is not in it" in capsys.readouterr().err
    assert not list((tmp_path / "results").iterdir())
