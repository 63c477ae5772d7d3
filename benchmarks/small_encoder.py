"""A small encoder for a language that no model at hand knows: BERT of four layers, pre-trained on the texts by masking.

It knows nothing else: a start for comparing representations, not a model to ship.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

HIDDEN, LAYERS, HEADS = 256, 4, 4
MAX_LENGTH = 512
STEPS, BATCH_SIZE = 600, 32
MASKED = 0.3  # more than BERT's 15%: few texts, seen often


def small_encoder(texts: Sequence[str], folder: Path, seed: int = 0) -> Path:
    """A sentence-transformers folder with mean pooling. What is there is not made again."""
    if (folder / "modules.json").exists():
        return folder
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import BertWordPieceTokenizer
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        BertTokenizerFast,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    torch.manual_seed(seed)
    words = BertWordPieceTokenizer(handle_chinese_chars=True, lowercase=True)
    words.train_from_iterator(texts, vocab_size=8000, min_frequency=2, show_progress=False)
    work = folder.with_name(f"{folder.name}-work")
    work.mkdir(parents=True, exist_ok=True)
    words.save(str(work / "tokenizer.json"))
    tokenizer = BertTokenizerFast(tokenizer_file=str(work / "tokenizer.json"), model_max_length=MAX_LENGTH)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN, max_position_embeddings=MAX_LENGTH, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    rows = [{"input_ids": ids} for ids in tokenizer(list(texts), truncation=True, max_length=256)["input_ids"]]
    arguments = TrainingArguments(
        str(work / "run"), max_steps=STEPS, per_device_train_batch_size=BATCH_SIZE, learning_rate=5e-4,
        warmup_steps=0.1, bf16=True, use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True, seed=seed,
        logging_steps=100,
    )  # fmt: skip
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator)
    trainer.train()
    model.bert.save_pretrained(work / "bert")
    tokenizer.save_pretrained(work / "bert")
    transformer = Transformer(str(work / "bert"), max_seq_length=MAX_LENGTH)
    SentenceTransformer(modules=[transformer, Pooling(HIDDEN, "mean"), Normalize()]).save(str(folder))
    (folder / "pretraining.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n", encoding="utf-8")
    return folder
