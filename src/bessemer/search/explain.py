"""Why a passage was found, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bessemer.encoders.encoder import Encoded

if TYPE_CHECKING:
    from bessemer.encoders.unified import UnifiedEncoder

NO_TOKENS = (
    "which tokens matched is known of unified models only: train heads with `bessemer finetune --head unified` and "
    "build the index again"
)


def explain(query: Encoded, passage: Encoded, encoder: UnifiedEncoder) -> dict[str, Any]:
    """What carried the sparse and the multi-vector score of one query and one passage, as JSON.

    ``sparse``: the shared tokens, by falling share of the score. ``multi_vector``: for every token of the query the
    passage's token that it matched, with their similarity. Tokens are pieces of other people's texts.
    """
    from bessemer.encoders.explanation import explained

    found = explained(query, passage, encoder.lane_weights, encoder.token_strings)
    total = sum(token.contribution for token in found.shared)
    return {
        "sparse": [
            {"token": token.token, "score": token.contribution, "share": token.contribution / total}
            for token in found.shared
        ],
        "multi_vector": [
            {"token": match.token, "matched": match.matched, "score": match.similarity} for match in found.matches
        ],
    }
