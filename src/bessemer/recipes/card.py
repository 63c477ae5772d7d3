"""The model card: what the model is, how it was made, and the measured table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.formats.lines import atomic_writer
from bessemer.measures import SHOWN


def write_model_card(folder: Path, report: Mapping[str, Any]) -> None:
    """Write README.md into the model folder, in the form that the Hugging Face hub reads."""
    with atomic_writer(folder / "README.md") as stream:
        stream.write(model_card(report))


def model_card(report: Mapping[str, Any]) -> str:
    training, evaluation, settings = report["training"], report["evaluation"], report["settings"]
    interpolation = training.get("interpolation")
    loss = settings["finetune"]["loss"] or "info_nce"
    mixing = f", mixed with the base's weights at alpha {interpolation['alpha']:g}" if interpolation else ""
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, sentence-similarity, feature-extraction, bessemer]
---

# {Path(settings["model"]).name}, tuned on {report["data"]["name"]}

{report["verdict"]["decision"].capitalize()}: {report["verdict"]["reason"]}

{measured_table(evaluation)}
{_final_fit(report)}
{evaluation["n_queries"]} test queries, {report["data"]["passages"]} passages, split `{evaluation["split"]}`.

## Use

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{folder_name(report)}")
queries = model.encode_query(["..."])
passages = model.encode_document(["..."])
print(model.similarity(queries, passages))
```

## Training

Loss `{loss}` on {training["examples"]} examples ({training["steps"]} steps, {training["epochs"]:.2f} epochs) with
`{report["negatives"]["strategy"]}` hard negatives{mixing}. Base: `{settings["model"]}`, fingerprint
`{report["fingerprints"]["base"][:16]}`; this model: `{_own_fingerprint(report)[:16]}`.
Made with Bessemer {report["bessemer"]}, seed {report["seed"]}{f": `{report['command']}`" if report["command"] else ""}.
"""


def _own_fingerprint(report: Mapping[str, Any]) -> str:
    """Of the model beside the card: after a final fit that is not the one that was measured."""
    found = report["fingerprints"]
    return str(found.get("final", found["tuned"]))


def _final_fit(report: Mapping[str, Any]) -> str:
    return f"\n**{report['final_fit']['note']}**\n" if "final_fit" in report else ""


def measured_table(evaluation: Mapping[str, Any]) -> str:
    """Systems by measures, as a Markdown table: those of SHOWN that the configuration measures."""
    systems = evaluation["systems"]
    shown = [measure for measure in SHOWN if all(measure in system["measures"] for system in systems.values())]
    rows = [f"| system | {' | '.join(shown)} |", f"|---|{'---|' * len(shown)}"]
    for name, system in systems.items():
        values = " | ".join(f"{system['measures'][measure]:.4f}" for measure in shown)
        rows.append(f"| {name} | {values} |")
    return "\n".join(rows)


def folder_name(report: Mapping[str, Any]) -> str:
    return f"{report['settings']['out'].rstrip('/')}/model"
