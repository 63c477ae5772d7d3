from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tiny_builds import write_all
from tiny_m3 import PAIRS, write_tiny_m3
from tiny_models import words

from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.cpu.graph import require_exportable
from bessemer.encoders.cpu.manifest import MANIFEST, TOKENIZER, beside_model, check_backend
from bessemer.encoders.cpu.networks import n_physical_cores
from bessemer.encoders.cpu.open import open_build
from bessemer.encoders.cpu.quantise import SCHEMES
from bessemer.encoders.cpu.unified import CpuUnifiedEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import OUTPUTS, may_search
from bessemer.encoders.load import load_encoder
from bessemer.encoders.precision import lowest_cosine
from bessemer.encoders.search_encoder import open_for_search
from bessemer.encoders.two_towers import join_towers
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ArtifactError, ConfigError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

TEXTS = ["", words(1), words(*range(60)), words(3, 3, 7), *(words(*range(i, i + 3 + i % 9)) for i in range(40))]
"""No word, one, more than the model reads, and a mix."""


@pytest.fixture(scope="module")
def mean_pooled(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> DenseEncoder:
    """A tiny BERT with prompts, mean pooling, and lengths of its own."""
    transformer = Transformer(str(tiny_folder("for-builds", seed=3)))
    modules = [transformer, Pooling(32, "mean"), Normalize()]
    prompts = {"query": "query : ", "document": "passage : "}
    model = SentenceTransformer(modules=modules, device="cpu", prompts=prompts, similarity_fn_name="cosine")
    return DenseEncoder(model, "tiny", bf16=False, max_length=40, query_max_length=12)


@pytest.fixture(scope="module")
def builds(mean_pooled: DenseEncoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_all(mean_pooled, tmp_path_factory.mktemp("builds"))


@pytest.fixture(scope="module")
def tiny_m3(tmp_path_factory: pytest.TempPathFactory) -> UnifiedEncoder:
    folder = tmp_path_factory.mktemp("m3")
    write_tiny_m3(folder)
    encoder = load_encoder(str(folder), device="cpu", bf16=False)
    assert isinstance(encoder, UnifiedEncoder)
    return encoder.with_settings(multi_vector_precision="float32")


@pytest.fixture(scope="module")
def unified_builds(tiny_m3: UnifiedEncoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_all(tiny_m3, tmp_path_factory.mktemp("unified_builds"))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_float_builds_give_the_vectors_of_the_model(
    backend: str, builds: dict[str, Path], mean_pooled: DenseEncoder
) -> None:
    build = open_build(builds[backend])
    before = dict(mean_pooled.n_truncated)
    for side in ("query", "passage"):
        ours, theirs = build.encode(TEXTS, side), mean_pooled.encode(TEXTS, side)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert build.tokenize(TEXTS, side) == mean_pooled.tokenize(TEXTS, side)
        assert build.n_truncated[side] == mean_pooled.n_truncated[side] - before[side]
    assert build.count_tokens(TEXTS) == mean_pooled.count_tokens(TEXTS)
    assert build.encode_queries([]).dense.shape == (0, 32)
    assert (build.query_max_length, build.max_length) == (12, 40)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_int8_vectors_are_near_and_do_not_depend_on_neighbours(
    scheme: str, builds: dict[str, Path], mean_pooled: DenseEncoder
) -> None:
    build = open_build(builds[scheme])
    together = build.encode(TEXTS, "passage")
    assert lowest_cosine(together, mean_pooled.encode(TEXTS, "passage")) > 0.98
    one_by_one = np.concatenate([build.encode([text], "passage") for text in TEXTS[:8]])
    np.testing.assert_array_equal(together[:8], one_by_one)


def test_int8_is_smaller_and_blockwise_is_nearest(builds: dict[str, Path], mean_pooled: DenseEncoder) -> None:
    exact = mean_pooled.encode(TEXTS, "passage")
    far = {name: 1 - lowest_cosine(open_build(builds[name]).encode(TEXTS, "passage"), exact) for name in SCHEMES}
    assert far["blockwise"] < far["dynamic"]


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_unified_builds_give_all_three_outputs(
    backend: str, unified_builds: dict[str, Path], tiny_m3: UnifiedEncoder
) -> None:
    build = open_build(unified_builds[backend])
    assert isinstance(build, CpuUnifiedEncoder)
    texts = ["", "[UNK]", *(text for pair in PAIRS for text in pair)]
    ours, theirs = build.encode_passages(texts, OUTPUTS), tiny_m3.encode_passages(texts, OUTPUTS)
    np.testing.assert_allclose(ours.dense, theirs.dense, atol=1e-4)
    np.testing.assert_allclose(ours.sparse.toarray(), theirs.sparse.toarray(), atol=1e-4)
    assert ours.multi_vector.offsets.tolist() == theirs.multi_vector.offsets.tolist()
    assert ours.multi_vector.token_ids.tolist() == theirs.multi_vector.token_ids.tolist()
    np.testing.assert_allclose(ours.multi_vector.rows, theirs.multi_vector.rows, atol=1e-4)
    assert build.encode_queries(texts[:2]).sparse is None
    assert build.encode_queries([], OUTPUTS).sparse.shape == (0, tiny_m3.vocabulary_size)
    pruned = build.with_settings(top_weights=1).encode_queries([words(1, 2, 3)], ("sparse",))
    assert pruned.sparse.nnz == 1
    fewer = build.with_settings(top_weights=1)
    assert (fewer.fingerprint, fewer.content_key == build.content_key) == (build.fingerprint, False)
    one, other = build.explain(*PAIRS[0]), tiny_m3.explain(*PAIRS[0])
    assert [match.token for match in one.matches] == [match.token for match in other.matches]
    assert one.ensemble == pytest.approx(other.ensemble, abs=1e-4)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_heads_stay_float_in_int8(scheme: str, unified_builds: dict[str, Path]) -> None:
    """The product with the token-vector head's weight (32 x 32) is as it was: its bias is added to a MatMul."""
    import onnx

    graph = onnx.load(unified_builds[scheme] / "model.onnx").graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    added = [node for node in graph.node if any(".heads." in name for name in node.input) and node.op_type == "Add"]
    assert len(added) == 2
    for node in added:
        assert "MatMul" in {makers.get(name) for name in node.input}


def test_fingerprints_are_never_mixed(builds: dict[str, Path], mean_pooled: DenseEncoder) -> None:
    opened = [open_build(folder) for folder in builds.values()]
    prints = [encoder.fingerprint_of("passage") for encoder in (*opened, mean_pooled)]
    assert len(set(prints)) == len(prints)
    for build in opened:
        assert may_search(build, mean_pooled.fingerprint)
        assert may_search(build, build.fingerprint)
        assert not may_search(build, "another")
        assert not may_search(mean_pooled, build.fingerprint)


def test_tasks_have_their_own_prompts_and_fingerprint(builds: dict[str, Path]) -> None:
    build = open_build(builds["onnx"])
    changes = {"task_prompts": {"faq": ("w1 ", "w2 ")}, "stands_for": {"": "own", "faq": "of faq"}}
    tuned = CpuEncoder(
        "tuned", type(build.build).model_validate({**build.build.model_dump(), **changes}), build._tokenizer,
        build._network,
    )  # fmt: skip
    faq = tuned.for_task("faq")
    assert faq.fingerprint != tuned.fingerprint
    assert (faq.stands_for("of faq"), faq.stands_for("own"), tuned.stands_for("own")) == (True, False, True)
    assert faq.tokenize([words(5)], "query") != tuned.tokenize([words(5)], "query")
    assert tuned.for_task("unknown").fingerprint == tuned.fingerprint


@pytest.mark.parametrize("damage", ["graph", "size", "tokenizer", "manifest", "format", "missing"])
def test_damaged_builds_are_refused(damage: str, builds: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(builds["onnx"], folder)
    graph, manifest = folder / "model.onnx", folder / MANIFEST
    words_of = {"graph": "sha256", "size": "bytes, not", "tokenizer": "sha256", "manifest": "damaged",
                "format": "format 2", "missing": "cannot be read"}  # fmt: skip
    if damage == "graph":
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
    elif damage == "size":
        graph.write_bytes(graph.read_bytes() + b"\0")
    elif damage == "tokenizer":
        (folder / TOKENIZER).write_text((folder / TOKENIZER).read_text().replace("w1", "w2", 1))
    elif damage == "manifest":
        manifest.write_text(manifest.read_text().replace('"dimension"', '"dimensions"'))
    elif damage == "format":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 2}))
    else:
        graph.unlink()
    with pytest.raises(ArtifactError, match=words_of[damage]):
        open_build(folder)


def test_numbers_that_are_not_finite_are_refused(builds: dict[str, Path]) -> None:
    build = open_build(builds["onnx"])
    network = build._network
    build._network = lambda ids, mask: {"dense": network(ids, mask)["dense"] * np.float32("nan")}
    with pytest.raises(ArtifactError, match="2 of 2 vectors are not finite"):
        build.encode([words(1), words(2)], "query")


def test_lengths_beyond_the_model_are_refused(builds: dict[str, Path]) -> None:
    assert open_build(builds["onnx"], max_length=20).max_length == 20
    for length in (2, 65):
        with pytest.raises(ConfigError, match=f"max length {length}"):
            open_build(builds["onnx"], max_length=length)


def test_what_cannot_be_exported_says_what_can(
    tiny_static: DenseEncoder, tiny_folder: Callable[..., Path], tiny: DenseEncoder
) -> None:
    causal = load_encoder(str(tiny_folder("causal-for-builds", kind="qwen3")), device="cpu", bf16=False)
    towers = join_towers(tiny, tiny.independent_copy().model)
    for encoder, words_of in ((tiny_static, "static"), (causal, "decoder-only"), (towers, "a tower for queries")):
        with pytest.raises(ConfigError, match=f"{words_of}.*transformer whose tokens see both ways"):
            require_exportable(encoder)


def test_opening_tells_builds_from_models(builds: dict[str, Path], bert_folder: Path) -> None:
    assert isinstance(open_for_search(str(builds["onnx"])), CpuEncoder)
    assert isinstance(open_for_search(str(bert_folder), device="cpu"), DenseEncoder)
    with pytest.raises(ConfigError, match="a CPU build"):
        load_encoder(str(builds["onnx"]))
    assert beside_model("a/model", "onnx") == Path("a/model/onnx")
    with pytest.raises(ConfigError, match="known: onnx, onnx-int8, openvino"):
        check_backend("tensorrt")


def test_openvino_does_not_report_home(builds: dict[str, Path]) -> None:
    code = "from bessemer.encoders.search_encoder import open_for_search\n"
    code += f"open_for_search({str(builds['openvino'])!r})\n"
    code += "import openvino.tools.ovc as ovc; print(type(ovc.telemetry).__module__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("telemetry_stub")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert n_physical_cores() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert n_physical_cores() >= 1


def test_a_query_is_encoded_without_torch(builds: dict[str, Path]) -> None:
    code = "import sys; from bessemer.encoders.search_encoder import open_for_search\n"
    code += f"print(open_for_search({str(builds['onnx'])!r}).encode_queries(['w1']).dense.shape)\n"
    code += "print([name for name in ('torch', 'transformers', 'sentence_transformers') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["(1, 32)", "[]"]


def test_the_source_is_left_as_it_was(mean_pooled: DenseEncoder, builds: dict[str, Path]) -> None:
    assert mean_pooled.model[0].model.config._attn_implementation != "eager"
    assert all(parameter.grad is None for parameter in mean_pooled.model.parameters())
    assert not torch.is_inference(next(mean_pooled.model.parameters()))
