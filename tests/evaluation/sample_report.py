"""A realistic report.json, as a dict: English docstrings with two Chinese passages among them."""

from __future__ import annotations

import math
from typing import Any

SYSTEMS = {
    "bm25": (0.4012, 0.6420, 0.7106, 0.5518, 0.8725, 0.5023, 0.5061),
    "base": (0.4763, 0.7473, 0.8291, 0.6370, 0.9434, 0.5766, 0.5811),
    "tuned": (0.5681, 0.8300, 0.8960, 0.7272, 0.9694, 0.6730, 0.6761),
    "hybrid-base": (0.4824, 0.7596, 0.8392, 0.6473, 0.9571, 0.5868, 0.5905),
    "hybrid-tuned": (0.5498, 0.8208, 0.8913, 0.7137, 0.9709, 0.6571, 0.6603),
}
MEASURES = ("R@1", "R@5", "R@10", "nDCG@10", "R@100", "RR@10", "AP@100")

RIDGE = (
    "Ridge > fit\nThis estimator solves a regression model where the loss function is the linear least squares "
    "function and regularization is given by the l2-norm. Also known as Ridge Regression or Tikhonov regularization. "
    "This estimator has built-in support for multi-variate regression (i.e., when y is a 2d-array of shape (n_samples, "
    "n_targets)).\n\nRegularization strength must be a positive float. Regularization improves the conditioning of the "
    "problem and reduces the variance of the estimates. Larger values specify stronger regularization. Alpha "
    "corresponds to 1 / (2C) in other linear models such as LogisticRegression or LinearSVC. If an array is passed, "
    "penalties are assumed to be specific to the targets. Hence they must correspond in number."
)
QR = (
    "numpy.linalg > qr\nFactor the matrix a as qr, where q is orthonormal and r is upper-triangular. When "
    "mode='reduced' the shapes of the factors are (..., M, K) and (..., K, N) with K = min(M, N)."
)
LSTSQ = (
    "numpy.linalg > lstsq\nComputes the vector x that approximately solves the equation a @ x = b. The equation may be "
    "under-, well-, or over-determined (i.e., the number of linearly independent rows of a can be less than, equal to, "
    "or greater than its number of linearly independent columns)."
)
SPECTRAL = (
    "scipy.signal > spectrogram\nSpectrograms can be used as a way of visualizing the change of a nonstationary "
    "signal's frequency content over time. An appropriate amount of overlap will depend on the choice of window and on "
    "your requirements."
)
STFT = (
    "torch > stft\nThe STFT computes the Fourier transform of short overlapping windows of the input. This gives "
    "frequency components of the signal as they change over time. The interface of this function is modeled after "
    "librosa's stft."
)
WELCH = (
    "scipy.signal > welch\nWelch's method computes an estimate of the power spectral density by dividing the data into "
    "overlapping segments, computing a modified periodogram for each segment and averaging the periodograms."
)
FASTAPI_ZH = (
    "依赖项 > 使用 yield 的依赖项\nFastAPI 支持在完成后执行一些额外步骤的依赖项。为此，请使用 yield 而不是 return，"
    "然后再编写额外的步骤（代码）。确保在每个依赖中只使用一次 yield。"
)
MIDDLEWARE_ZH = (
    "中间件\n你可以向 FastAPI 应用添加中间件。“中间件”是一个函数，它在每个请求被特定的路径操作处理之前运行。"
)


def passage(passage_id: str, text: str, score: float, relevant: bool = False) -> dict[str, Any]:
    return {"passage_id": passage_id, "text": text, "score": score, "relevant": relevant}


def sample_report() -> dict[str, Any]:
    evaluation = {
        "data": "docstrings",
        "split": "test",
        "n_queries": 653,
        "systems": {
            name: {"measures": dict(zip(MEASURES, values, strict=True)), "queries_per_second": speed}
            for (name, values), speed in zip(SYSTEMS.items(), (2410.5, 312.4, 318.9, 262.1, 268.3), strict=True)
        },
        "comparisons": _comparisons(),
        "verdict": {
            "decision": "ship",
            "reason": "The interval of the difference in nDCG@10 lies above zero, and the general set loses 0.003, "
            "within the margin of 0.010.",
        },
        "notes": [
            "hybrid-tuned does not beat tuned alone in nDCG@10: serve the dense lane.",
            "41 test queries share no word with their relevant passage; BM25 cannot find these.",
        ],
        "general": {
            "name": "FastAPI pages",
            "n_queries": 214,
            "base": 0.7018,
            "tuned": 0.6988,
            "difference": -0.0030,
            "ci_low": -0.0104,
            "ci_high": 0.0043,
            "margin": 0.01,
        },
        "recall_curve": {name: _recall_curve(values[0], values[2], values[4]) for name, values in SYSTEMS.items()},
        "slices": _slices(),
        "separation": _separation(),
        "examples": _examples(),
    }
    return {
        "bessemer": "0.1.0",
        "created": "2026-11-21T10:32:07Z",
        "command": "bessemer demo --model minilm --seed 42 --out out/",
        "seed": 42,
        "verdict": evaluation["verdict"],
        "data": _data(),
        "negatives": {
            "strategy": "top_k",
            "n_queries": 2286,
            "mean_per_query": 3.94,
            "dropped": {"relative margin": 31214, "near duplicate of a positive": 402},
            "dropped_share": 0.138,
            "warnings": [],
        },
        "training": _training(),
        "evaluation": evaluation,
        "settings": {
            "model": "minilm",
            "seed": 42,
            "negatives": {"strategy": "top_k", "n_negatives": 4, "relative_margin": 0.95},
            "finetune": {
                "learning_rate": 5e-05,
                "temperature": 0.05,
                "per_device_train_batch_size": 64,
                "max_length": None,
            },
            "evaluation": {"general_margin": 0.01, "similarity": []},
        },
        "versions": {"bessemer": "0.1.0", "python": "3.12.4", "torch": "2.13.0", "sentence-transformers": "6.2.0"},
        "fingerprints": {"base": "9c1f04d7a0b2e6f8", "tuned": "3e77b1c95d20aa41"},
    }


def _comparisons() -> list[dict[str, Any]]:
    half_widths = {"R@1": 0.028, "R@5": 0.021, "R@10": 0.017, "nDCG@10": 0.0186, "R@100": 0.010, "RR@10": 0.021}
    rows = []
    for treatment in ("tuned", "bm25", "hybrid-base", "hybrid-tuned"):
        for measure, half in half_widths.items():
            i = MEASURES.index(measure)
            difference = round(SYSTEMS[treatment][i] - SYSTEMS["base"][i], 4)
            rows.append(
                {
                    "baseline": "base",
                    "treatment": treatment,
                    "measure": measure,
                    "difference": difference,
                    "ci_low": round(difference - half, 4),
                    "ci_high": round(difference + 1.04 * half, 4),
                    "p": 0.0001 if abs(difference) > 2 * half else 0.2817,
                    "n_queries": 653,
                }
            )
    return rows


def _recall_curve(first: float, tenth: float, hundredth: float) -> list[list[float]]:
    """Through R@1, R@10 and R@100, linear in log k between."""
    curve = []
    for k in (1, 2, 3, 5, 10, 20, 30, 50, 100):
        x = math.log10(k)
        value = first + (tenth - first) * x**0.8 if x <= 1 else tenth + (hundredth - tenth) * (x - 1) ** 0.8
        curve.append([k, round(value, 4)])
    return curve


def _slices() -> list[dict[str, Any]]:
    rows = (
        ("query length: short", 201, 0.5312, 0.6401, 0.0360),
        ("query length: medium", 288, 0.6604, 0.7515, 0.0269),
        ("query length: long", 164, 0.7255, 0.7911, 0.0341),
        ("lexical overlap: low", 41, 0.2210, 0.3804, 0.0930),
        ("lexical overlap: high", 612, 0.6649, 0.7505, 0.0187),
        ("language: zh", 18, 0.3920, 0.4011, 0.1110),
    )
    return [
        {
            "slice": name,
            "n_queries": n,
            "base": base,
            "tuned": tuned,
            "difference": round(tuned - base, 4),
            "ci_low": round(tuned - base - half, 4),
            "ci_high": round(tuned - base + half, 4),
        }
        for name, n, base, tuned, half in rows
    ]


def _separation() -> dict[str, Any]:
    edges = [round(-0.2 + 0.05 * i, 2) for i in range(25)]

    def bell(mean: float, deviation: float, total: int) -> list[int]:
        weights = [math.exp(-(((a + 0.025 - mean) / deviation) ** 2) / 2) for a in edges[:-1]]
        return [round(total * weight / sum(weights)) for weight in weights]

    return {
        "edges": edges,
        "base": {"positive": bell(0.52, 0.15, 653), "negative": bell(0.12, 0.10, 6530), "auc": 0.9846},
        "tuned": {"positive": bell(0.61, 0.13, 653), "negative": bell(0.04, 0.11, 6530), "auc": 0.9938},
        "note": "Negatives: the 10 highest-ranked passages of base that are not relevant, the same for both systems.",
    }


def _data() -> dict[str, Any]:
    return {
        "name": "docstrings of numpy, scipy, scikit-learn, torch",
        "documents": 1188,
        "passages": 3265,
        "queries": {"train": 2286, "dev": 326, "test": 653},
        "dropped": {"too short": 611, "near duplicate": 271, "no summary line": 1204},
        "warnings": ["12 dev queries were carved from train: the source has no dev split."],
        "funnel": [
            {"stage": "read", "kept": 5351, "dropped": 1204, "reasons": {"no summary line": 1204}},
            {"stage": "clean", "kept": 4740, "dropped": 611, "reasons": {"too short": 602, "not text": 9}},
            {"stage": "near duplicates", "kept": 4469, "dropped": 271, "reasons": {"near duplicate": 271}},
            {
                "stage": "questions",
                "kept": 3265,
                "dropped": 1204,
                "reasons": {"passage not found again": 1101, "copy": 103},
            },
        ],
        "truncated": {"query": 0, "passage": 87},
    }


def _training() -> dict[str, Any]:
    steps = list(range(5, 145, 5))
    ripple = [math.sin(1.7 * i) * 0.05 for i in range(len(steps))]
    return {
        "examples": 9144,
        "steps": 140,
        "epochs": 3.92,
        "seconds": 214.6,
        "examples_per_second": 42.61,
        "final_loss": 0.4127,
        "token_waste": 0.061,
        "peak_memory_bytes": 2_147_000_000,
        "loss_curve": [
            {"step": step, "loss": round(0.4 + 1.5 * math.exp(-step / 28) + noise, 4)}
            for step, noise in zip(steps, ripple, strict=True)
        ],
        "dev_curve": [
            {"step": step, "nDCG@10": value}
            for step, value in zip(
                (0, 18, 36, 54, 72, 90, 108, 126, 140),
                (0.6511, 0.6903, 0.7124, 0.7288, 0.7340, 0.7402, 0.7391, 0.7377, 0.7369),
                strict=True,
            )
        ],
        "best_step": 90,
        "stopped_early": True,
        "dev_pool": "Dev pool: 326 dev queries; their positives, the top 100 of base and BM25, 2,000 random passages.",
        "interpolation": {
            "alpha": 0.8,
            "candidates": [
                {"alpha": alpha, "dev": dev, "standard_error": error, "general": general}
                for alpha, dev, error, general in (
                    (0.0, 0.6511, 0.0131, 0.7018),
                    (0.2, 0.6794, 0.0118, 0.7040),
                    (0.4, 0.7071, 0.0092, 0.7049),
                    (0.6, 0.7288, 0.0071, 0.7031),
                    (0.8, 0.7396, 0.0044, 0.6988),
                    (1.0, 0.7402, 0.0, 0.6885),
                )
            ],
        },
    }


def _examples() -> dict[str, Any]:
    lstsq, qr, welch = (("numpy.linalg.lstsq", LSTSQ), ("numpy.linalg.qr", QR), ("scipy.signal.welch", WELCH))
    ridge, stft = ("sklearn.linear_model.Ridge", RIDGE), ("torch.stft", STFT)
    spectrogram = ("scipy.signal.spectrogram", SPECTRAL)
    dependency, middleware = (
        ("fastapi-zh/dependencies-with-yield", FASTAPI_ZH),
        ("fastapi-zh/middleware", MIDDLEWARE_ZH),
    )
    return {
        "won": [
            {
                "query_id": "q-1181",
                "query": "Linear least squares with l2 regularization.",
                "change": 0.6667,
                "base": [passage(*lstsq, 0.6123), passage(*qr, 0.5411), passage(*welch, 0.3307)],
                "tuned": [passage(*ridge, 0.7745, True), passage(*lstsq, 0.6902), passage(*qr, 0.5016)],
                "relevant": [{"passage_id": ridge[0], "text": RIDGE}],
                "base_rank": 7,
                "tuned_rank": 1,
            },
            {
                "query_id": "q-88",
                "query": "请求处理完之后，怎样关闭数据库连接？",
                "change": 1.0,
                "base": [passage(*middleware, 0.4410), passage(*qr, 0.2104)],
                "tuned": [passage(*dependency, 0.5920, True), passage(*middleware, 0.5577)],
                "relevant": [{"passage_id": dependency[0], "text": FASTAPI_ZH}],
                "base_rank": None,
                "tuned_rank": 1,
            },
        ],
        "lost": [
            {
                "query_id": "q-402",
                "query": "Compute a spectrogram with consecutive Fourier transforms.",
                "change": -0.3691,
                "base": [passage(*spectrogram, 0.7011, True), passage(*stft, 0.6890), passage(*welch, 0.6412)],
                "tuned": [passage(*stft, 0.7720), passage(*spectrogram, 0.7633, True), passage(*welch, 0.6930)],
                "relevant": [{"passage_id": spectrogram[0], "text": SPECTRAL}],
                "base_rank": 1,
                "tuned_rank": 2,
            }
        ],
    }
