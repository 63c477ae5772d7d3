from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import english_world
from bessemer import open_index
from bessemer.cli import app
from bessemer.config import Config
from bessemer.errors import ConfigError
from bessemer.recipes.index import index, rollback_index
from bessemer.search.stores.files import FilesEngine

Configure = Callable[..., Config]


def test_index_again_encodes_only_what_changed(configure: Configure, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    config = configure(tmp_path, data=str(beir))
    first = index(config)
    assert (first["n_passages"], first["n_encoded"], first["n_reused"]) == (60, 60, 0)
    with (beir / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        corpus.write('{"_id": "new", "title": "", "text": "a wholly new passage on arguments and modules"}\n')
    second = index(config)
    assert (second["n_passages"], second["n_encoded"], second["n_reused"]) == (61, 1, 60)
    assert open_index(config.out).search("wholly new passage", 1)[0]["passage_id"] == "new"


def test_another_length_makes_other_vectors(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("How a folder of files is listed, sorted and read in turn.", encoding="utf-8")
    short, long = (
        configure(tmp_path, source=str(tmp_path / "one.md"), model="minilm", finetune={"max_length": length})
        for length in (32, 64)
    )
    assert [index(config)["n_encoded"] for config in (short, short, long)] == [1, 0, 1]
    opened = open_index(long.out)
    assert (opened.manifest["encoding"]["max_length"], opened.encoder.max_length) == (64, 64)


def test_documents_without_splits(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text(f"# One\n\n{english_world.docstring_pairs()[0][2]}\n", encoding="utf-8")
    config = configure(tmp_path, source=str(tmp_path / "one.md"))
    assert index(config)["n_passages"] == 1
    hits = open_index(config.out).search("one", 5)
    assert [hit["doc_id"] for hit in hits] == ["one.md"]
    assert {"passage_id", "doc_id", "score", "text", "lanes"} <= hits[0].keys()


def test_filters_engine_and_rollback_from_the_command_line(tmp_path: Path, english_model: Path) -> None:
    corpus = tmp_path / "beir" / "corpus.jsonl"
    corpus.parent.mkdir()
    rows = [{"_id": f"p{year}", "text": f"a module of {year}", "metadata": {"year": year}} for year in (2019, 2020)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = ["--workspace", str(tmp_path / "workspace"), "--device", "cpu"]
    out = str(tmp_path / "index")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, *common])
        assert result.exit_code == code, result.output
        return result.output

    build = ("index", "--data", str(corpus.parent), "--model", str(english_model), "--out", out)
    assert "2 passages: 2 encoded" in run(*build, "--engine", "files")
    search = ("search", "a module", "--index", out, "--json", "-")
    assert len(json.loads(run(*search))) == 2
    assert [hit["passage_id"] for hit in json.loads(run(*search, "--where", "year>=2020"))] == ["p2020"]
    assert "--where 'year'" in run(*search, "--where", "year", code=2)
    assert "no engine 'fils'" in run(*build, "--engine", "fils", code=2)
    assert "nothing to roll back to" in run("index", "--out", out, "--rollback", code=2)
    run(*build[:-3], "minilm", "--out", out)
    assert f"the generation of {english_model} is searched again: 2 passages" in run(
        "index", "--out", out, "--rollback"
    )


def test_late_chunking_reads_passages_in_their_documents(configure: Configure, tmp_path: Path) -> None:
    english_world.write_documents(tmp_path / "source")
    changes = {"source": str(tmp_path / "source"), "model": "minilm", "chunking": {"max_tokens": 60}}
    late = {**changes, "index": {"late_chunking": True}}
    plain = index(configure(tmp_path, **changes))
    first = index(configure(tmp_path, **late))
    assert first["n_encoded"] == first["n_passages"] == plain["n_passages"]  # another generation: nothing mixes
    assert (first["over_windows"], index(configure(tmp_path, **late))["n_encoded"]) == (0, 0)
    config = configure(tmp_path, **late)
    assert open_index(config.out).manifest["encoding"]["late_chunking"] == 2
    assert len(FilesEngine(config.out).generations()) == 2
    passages = list(open_index(config.out).passages())
    longest = max({passage.doc_id for passage in passages}, key=lambda name: sum(p.doc_id == name for p in passages))
    file = tmp_path / "source" / longest
    added = f"\n## Something new\n\nA new paragraph, {'much longer than most, ' * 6}ends.\n"
    file.write_text(file.read_text(encoding="utf-8") + added, encoding="utf-8")
    again = index(config)
    n_of_document = sum(passage.doc_id == longest for passage in passages)
    assert again["n_encoded"] == n_of_document + 1  # the whole document, and no other
    assert open_index(config.out).search("a new paragraph, much longer", 1)[0]["doc_id"] == longest
    rolled = rollback_index(config)
    assert "late_chunking" not in open_index(config.out).manifest["encoding"]
    assert rolled["n_passages"] == plain["n_passages"]


def test_late_chunking_needs_documents_and_mean_pooling(configure: Configure, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    with pytest.raises(ConfigError, match="give --source"):
        index(configure(tmp_path, data=str(beir), model="minilm", index={"late_chunking": True}))
    english_world.write_documents(tmp_path / "source")
    with pytest.raises(ConfigError, match="dense models with mean pooling"):
        index(configure(tmp_path, source=str(tmp_path / "source"), index={"late_chunking": True}))


def test_an_alias_stays_one_beside_a_folder_of_its_name(
    configure: Configure, english_beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    config = configure(tmp_path, data=str(english_beir), model="minilm", finetune={"max_length": 16})
    index(config)
    assert open_index(config.out).manifest["model"] == "minilm"
    assert open_index(config.out).search("list a folder", 1)
