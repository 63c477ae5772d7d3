"""The command line: one verb per recipe. It reads flags, prints, and gives exit codes; everything else is the recipes'.

Recipes are imported inside the verbs, so that ``bessemer --help`` loads no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bessemer.command import Call, app, verb
from bessemer.errors import ConfigError

INPUT = ("source", "data", "queries")
TRAINING = ("model", "out", "task", "finetune.*")
MINING = (  # all but n_negatives, which is the name of training's own
    *(f"negatives.{key}" for key in ("strategy", "candidates", "anchor", "range_min", "range_max")),
    *(f"negatives.{key}" for key in ("simans_a", "simans_b", "shares")),
    *(f"negatives.{key}" for key in ("relative_margin", "absolute_margin", "reranker")),
)
PRICED = ("max_cost", "max_tokens", "input_price", "output_price", "concurrency")
LLM = ("llm=llm.url", "llm_model=llm.model", *(f"llm.{key}" for key in PRICED))
SYSTEMS = (
    "bm25, tfidf, dense:MODEL, sparse:MODEL, multi:MODEL, unified:MODEL, index:INDEX, hybrid:NAME+NAME or "
    "rerank:NAME:MODEL"
)
WHERE = "FIELD=VALUE of the passages' metadata, or doc_id=...; also !=, >=, <=, >, <; again for more"
TEACHER = ("teacher=teacher.kind", "teacher_model=teacher.model")


@verb("adapt", *INPUT, *TRAINING, *MINING, *LLM, *TEACHER, "final_fit", "evaluation.general", plans=True)
def adapt(call: Call) -> None:
    """Documents or judged data to a tuned model, an index, and a report that says whether it is better."""
    from bessemer.recipes.adapt import adapt as run
    from bessemer.recipes.adapt import plan
    from bessemer.recipes.summary import report_summary

    if call.dry_run:
        call.plan(plan(call.config))
        return
    report = run(call.config)
    call.answer(report, report_summary(report, call.config.out))


@verb("demo", *TRAINING)
def demo(call: Call) -> None:
    """The main job on the docstrings of the installed scientific packages: offline, in minutes on two cores."""
    from bessemer.recipes.demo import demo as run
    from bessemer.recipes.summary import report_summary

    report = run(call.config)
    call.answer(report, report_summary(report, call.config.out))


@verb("init")
def init(call: Call, folder: Annotated[str, typer.Argument(metavar="DIR")] = ".") -> None:
    """Write a commented bessemer.yaml with every key and its default."""
    from bessemer.recipes.init import init as run

    path = run(folder)
    call.answer({"path": str(path)}, f"wrote {path}")


@verb("validate", "data", "source", "model", "finetune.max_length", "finetune.query_max_length")
def validate(
    call: Call, tokens: Annotated[bool, typer.Option("--tokens", help="count tokens and truncation by --model")] = False
) -> None:
    """Every problem of the data as file:line:field:fix; counts, lengths, duplicates, leaks between splits."""
    from bessemer.recipes.validate import validate_input

    validation, text = validate_input(call.config, tokens)
    call.answer(validation, text)
    if validation.problems:
        raise typer.Exit(3)


@verb("prepare", "source", "model", "out", "chunking.*", "split.*")
def prepare(call: Call) -> None:
    """Documents to passages: read, clean, deduplicate, chunk and split; a BEIR folder and dropped.jsonl."""
    from bessemer.recipes.prepare import prepare_folder
    from bessemer.recipes.summary import funnel_summary

    result = prepare_folder(call.config)
    call.answer(result, funnel_summary(result))


@verb("questions", *INPUT, "model", "out", "questions.*", "split.*", *LLM, plans=True)
def questions(
    call: Call,
    review: Annotated[
        str | None, typer.Option(help="CSV of generated questions: written for a person, then read back")
    ] = None,
) -> None:
    """Questions for a corpus, by a language model or extracted without one, beside your own, split by document; a BEIR
    folder."""
    from bessemer.recipes.plan import asking_summary
    from bessemer.recipes.questions import questions_folder
    from bessemer.recipes.summary import funnel_summary

    result = questions_folder(call.config, review=review, dry_run=call.dry_run)
    if call.dry_run:
        call.answer(result, asking_summary(result["llm"]))
    else:
        call.answer(result, funnel_summary(result))


@verb("negatives", "data", "model", "negatives.*", "finetune.temperature", plans=True)
def negatives(
    call: Call,
    out: Annotated[str, typer.Option(help="BGE JSONL file to write")],
    split: Annotated[str, typer.Option(help="split to mine for")] = "train",
    gradients: Annotated[bool, typer.Option("--gradients", help="compare what each strategy would teach")] = False,
) -> None:
    """Hard negatives of a split, with scores and ids, as BGE JSONL."""
    from bessemer.recipes.negatives import negatives as run
    from bessemer.recipes.negatives import plan_negatives
    from bessemer.recipes.summary import negatives_summary

    if call.dry_run:
        call.plan(plan_negatives(call.config, split, out, gradients=gradients))
        return
    result = run(call.config, split, out, gradients=gradients)
    call.answer(result, negatives_summary(result))


@verb("teacher", "data", "task", *TEACHER, *LLM, plans=True)
def teacher(call: Call, out: Annotated[str, typer.Option(help="BGE JSONL file to write")]) -> None:
    """Soft labels for distillation: the same BGE JSONL with a teacher's score for every candidate."""
    from bessemer.recipes.summary import teacher_summary
    from bessemer.recipes.teacher import teacher as run
    from bessemer.recipes.teacher_plan import plan_teacher, teacher_plan_summary

    if call.dry_run:
        planned = plan_teacher(call.config)
        call.answer(planned, teacher_plan_summary(planned))
        return
    result = run(call.config, out)
    call.answer(result, teacher_summary(result))


@verb("finetune", "data", *TRAINING, *MINING, plans=True, processes=True)
def finetune(
    call: Call,
    resume: Annotated[str, typer.Option(help="auto: from the last checkpoint; never: from the start")] = "auto",
) -> None:
    """Contrastive fine-tuning; the output folder is a sentence-transformers model with training.json."""
    from bessemer.recipes.finetune import finetune as run
    from bessemer.recipes.finetune_plan import plan_finetune
    from bessemer.recipes.summary import training_summary

    if resume not in ("auto", "never"):
        raise ConfigError(f"--resume {resume}: give auto or never")
    if call.dry_run:
        call.plan(plan_finetune(call.config, resume=resume == "auto"))
        return
    result = run(call.config, resume=resume == "auto")
    call.answer(result, training_summary(result, call.config.out))


@verb("evaluate", "data", "task", "evaluation.bootstrap_samples", "evaluation.top_k", "finetune.max_length", plans=True)
def evaluate(
    call: Call,
    system: Annotated[list[str], typer.Option(help=f"NAME=SPEC: {SYSTEMS}")],
    split: Annotated[str, typer.Option(help="split to measure on")] = "test",
    similarity: Annotated[str | None, typer.Option(help="cosine, dot or cosine,dot [the model's own]")] = None,
    runs: Annotated[str | None, typer.Option(help="folder for TREC run files")] = None,
    require: Annotated[str | None, typer.Option(help="ship: exit with 6 on any other verdict")] = None,
) -> None:
    """Systems in one table; the last is judged against the first, with paired intervals and a verdict."""
    from bessemer.recipes.evaluate import evaluate as run
    from bessemer.recipes.evaluate import plan_evaluate
    from bessemer.recipes.summary import evaluation_summary

    _check_require(require)
    if call.dry_run:
        call.plan(plan_evaluate(call.config, system, split))
        return
    result = run(call.config, system, split, similarity, runs)
    call.answer(result, evaluation_summary(result))
    _require(result, require)


@verb("compare", "evaluation.bootstrap_samples")
def compare(
    call: Call,
    first: Annotated[str, typer.Argument(help="JSON of evaluate, or report.json")],
    second: Annotated[str, typer.Argument(help="the same, of the newer system")],
    require: Annotated[str | None, typer.Option(help="ship: exit with 6 on any other verdict")] = None,
) -> None:
    """The judged system of the second file against that of the first, query by query."""
    from bessemer.recipes.compare import compare as run
    from bessemer.recipes.summary import evaluation_summary

    _check_require(require)
    result = run(first, second, call.config.evaluation)
    call.answer(result, evaluation_summary(result))
    _require(result, require)


@verb("report")
def report(
    call: Call,
    file: Annotated[str, typer.Argument(help="report.json, or JSON of evaluate")],
    out: Annotated[str, typer.Option(help="page to write")] = "report.html",
) -> None:
    """The self-contained HTML page of a report.json."""
    from bessemer.evaluation.report import write_report
    from bessemer.recipes.compare import read_report

    value = read_report(file)
    path = write_report(value if "evaluation" in value else {"evaluation": value}, out)
    call.answer({"path": str(path)}, f"wrote {path}")


@verb("index", "source", "data", "model", "out", "task", "chunking.*", "index.*", plans=True)
def index(
    call: Call,
    rollback: Annotated[bool, typer.Option("--rollback", help="search the generation before again")] = False,
) -> None:
    """Dense and BM25 index of documents or of a corpus (of a unified model sparse and multi-vectors, too), stamped with
    the model; again = only what changed."""
    from bessemer.recipes.index import index as run
    from bessemer.recipes.index import plan_index
    from bessemer.recipes.index import rollback_index as run_back
    from bessemer.recipes.summary import index_summary, rollback_summary

    if call.dry_run:
        call.plan(plan_index(call.config, rollback=rollback))
        return
    if rollback:
        restored = run_back(call.config)
        call.answer(restored, rollback_summary(restored))
        return
    result = run(call.config)
    call.answer(result, index_summary(result))


@verb("search")
def search(
    call: Call,
    query: Annotated[str, typer.Argument(help="what to look for")],
    index: Annotated[str, typer.Option(help="folder of the index")],
    top_k: Annotated[int, typer.Option(help="how many passages")] = 10,
    task: Annotated[str | None, typer.Option(help="must be the task that the index was built for")] = None,
    history: Annotated[
        list[str] | None, typer.Option(help="a turn before it, the oldest first; again for more")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="ranks and scores by lane, and tokens")] = False,
    where: Annotated[list[str] | None, typer.Option(help=WHERE)] = None,
    reranker: Annotated[str | None, typer.Option(help="cross-encoder that puts the best 50 into its order")] = None,
) -> None:
    """Search an index: its lanes, fused by rank or by tuned weights; of a unified model reranked by multi-vectors."""
    from bessemer.recipes.search import search as run
    from bessemer.recipes.summary import hits_summary
    from bessemer.search.stores.filters import parse_where
    from bessemer.types import Query

    asked = Query("", query, history=tuple(history or ())).searched_text
    conditions = parse_where(where or ())
    hits = run(call.config, index, asked, top_k, task, with_tokens=explain, where=conditions, reranker=reranker)
    call.answer(hits, hits_summary(hits, explain))


@verb("export", "model", "data", "source", "finetune.max_length", "finetune.query_max_length", "export.*")
def export(
    call: Call,
    backend: Annotated[str, typer.Option(help="onnx, onnx-int8 or openvino")],
    out: Annotated[str | None, typer.Option(help="folder of the build [MODEL/BACKEND]")] = None,
    index: Annotated[str | None, typer.Option(help="folder of an index whose passages the build is judged by")] = None,
) -> None:
    """A build of a model that is faster on a CPU; written only if it loses no more than --max-loss."""
    from bessemer.recipes.export import export as run
    from bessemer.recipes.summary import export_summary

    result = run(call.config, backend, out, index)
    call.answer(result, export_summary(result))


@verb("keywords", "data", *LLM, plans=True)
def keywords(
    call: Call,
    out: Annotated[str, typer.Option(help="JSONL file to write, in the chat format of fine-tuning services")],
    split: Annotated[str, typer.Option(help="split whose queries are asked about")] = "train",
) -> None:
    """Questions with the keywords that a language model makes of them, to fine-tune a small model on."""
    from bessemer.recipes.keywords import keywords as run
    from bessemer.recipes.plan import asking_summary
    from bessemer.recipes.summary import keywords_summary

    result = run(call.config, split, out, dry_run=call.dry_run)
    if call.dry_run:
        call.answer(result, asking_summary(result["llm"]))
    else:
        call.answer(result, keywords_summary(result))


@verb("ask", *LLM, "rewrite_llm_model=llm.rewrite_model", plans=True)
def ask(
    call: Call,
    question: Annotated[str, typer.Argument(help="what you want to know")],
    index: Annotated[list[str], typer.Option(help="folder of the index; several: the model says which to search")],
    top_k: Annotated[int, typer.Option(help="how many passages the answer may rest on")] = 6,
    rewrite: Annotated[str, typer.Option(help="lanes more: keywords, multi-query, hyde, with commas between")] = "",
    feedback: Annotated[str | None, typer.Option(help="JSONL of what people found helpful, to rewrite by")] = None,
    cache: Annotated[bool, typer.Option(help="answer again what was asked before")] = True,
    where: Annotated[list[str] | None, typer.Option(help=WHERE)] = None,
) -> None:
    """An answer from the documents with numbered citations, or that they hold none."""
    from bessemer.recipes.ask import ask as run
    from bessemer.recipes.ask import plan_ask
    from bessemer.recipes.summary import answer_summary
    from bessemer.search.stores.filters import parse_where

    ways = [way.strip() for way in rewrite.split(",") if way.strip()]
    conditions = parse_where(where or ())
    if call.dry_run:
        call.plan(plan_ask(call.config, index, question, top_k=top_k, ways=ways, where=conditions))
        return
    result = run(
        call.config, index, question, top_k=top_k, ways=ways, feedback=feedback, use_cache=cache, where=conditions
    )
    call.answer(result, answer_summary(result))


@verb("serve", "task", "serve.*", *LLM)
def serve(
    call: Call,
    index: Annotated[
        list[str] | None, typer.Option(help="index to search, whose model is served; again for more")
    ] = None,
    model: Annotated[str | None, typer.Option(help="model to serve without an index")] = None,
    backend: Annotated[str | None, typer.Option(help="encode by the CPU build in the model's folder")] = None,
) -> None:
    """HTTP service: OpenAI's embeddings, search, rerank and answers, until SIGTERM."""
    from bessemer.recipes.serve import serve as run

    run(call.config, index or [], model, backend)


def _check_require(require: str | None) -> None:
    if require not in (None, "ship"):
        raise ConfigError(f"--require {require}: the one verdict that can be asked for is ship")


def _require(result: Mapping[str, Any], require: str | None) -> None:
    decision = (result.get("verdict") or {}).get("decision")
    if require and decision != require:
        print(f"verdict: {decision}, asked for: {require}", file=sys.stderr)
        raise typer.Exit(6)


def main() -> None:
    app()
