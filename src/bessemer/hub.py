"""The Hugging Face hub."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

SECONDS = 60
"""So long the hub counts as it was last found."""


def is_out_of_reach(model: str, revision: str | None = None) -> bool:
    """Whether the hub gives no answer about a hub model; a folder needs none. Where it does not, models are loaded with
    ``local_files_only``: the hub's own library asks six times, in half a minute, for each file that its cache lacks."""
    return not Path(model).is_dir() and _gives_no_answer(model, revision, int(time.monotonic() // SECONDS))


@lru_cache(maxsize=64)
def _gives_no_answer(model: str, revision: str | None, _: int) -> bool:
    from huggingface_hub import file_exists
    from huggingface_hub.errors import HfHubHTTPError

    try:
        file_exists(model, "config.json", revision=revision)
    except HfHubHTTPError as error:
        return error.response.status_code >= 500
    except ValueError:  # not how the hub writes names
        return False
    except Exception:  # the errors of connections are those of the hub's HTTP library, which changes
        return True
    return False
