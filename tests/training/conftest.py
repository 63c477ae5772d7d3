"""Encoders for training tests: the installed minilm in float32, the tiny static model, a tiny BERT with dropout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(200)))


@pytest.fixture(scope="session")
def minilm() -> DenseEncoder:
    return load_encoder("minilm", device="cpu", bf16=False)


@pytest.fixture
def tiny_static(tiny_static_model: Path) -> DenseEncoder:
    return load_encoder(str(tiny_static_model), device="cpu")


@pytest.fixture(scope="session")
def tiny_bert_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_bert")
    ids = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=32, **shape)).save_pretrained(
        folder / "bert"
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder / "bert")  # fmt: skip
    modules = [Transformer(str(folder / "bert")), Pooling(16, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"


@pytest.fixture
def tiny_bert(tiny_bert_model: Path) -> DenseEncoder:
    return load_encoder(str(tiny_bert_model), device="cpu", bf16=False)


@pytest.fixture(params=["static", "bert"])
def fresh_encoder(
    request: pytest.FixtureRequest, tiny_static_model: Path, tiny_bert_model: Path
) -> Callable[[], DenseEncoder]:
    """Loads the tiny static model, or the tiny BERT, whose dropout draws random numbers at each step."""
    folder = tiny_static_model if request.param == "static" else tiny_bert_model
    return lambda: load_encoder(str(folder), device="cpu", bf16=False)


@pytest.fixture(scope="session")
def tiny_splade_model(tiny_bert_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SPLADE over the same words, its output table tied to the token table. Weights are large enough for scores to
    differ."""
    folder = tmp_path_factory.mktemp("tiny_splade")
    _with_tokenizer_of(tiny_bert_model, BertForMaskedLM, folder / "bert")
    SparseEncoder(str(folder / "bert"), device="cpu").save(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_colbert_model(tiny_bert_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ColBERT with vectors of 8 numbers; of passages, one word does not count."""
    folder = tmp_path_factory.mktemp("tiny_colbert")
    _with_tokenizer_of(tiny_bert_model, BertModel, folder / "bert")
    torch.manual_seed(0)
    transformer = Transformer(str(folder / "bert"))
    narrow = Dense(16, 8, bias=False, activation_function=nn.Identity(), module_input_name="token_embeddings")
    modules = [transformer, narrow, MultiVectorMask(skiplist_words=["w100"]), Normalize()]
    MultiVectorEncoder(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"


def _with_tokenizer_of(model: Path, kind: type, folder: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=32, initializer_range=0.3, **shape)
    kind(config).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(model).save_pretrained(folder)
