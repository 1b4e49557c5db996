"""A mixture of experts: a router chooses a few experts for each token.

Source: Life-IQA, section III and its released code. Where they disagree, the balance loss follows the paper: it
uses the full softmax (the Switch form: experts that were not chosen get a gradient too). All else follows the code.
"""

import torch
from torch import Tensor, nn

BALANCE_WEIGHT = 0.01
ROUTER_WEIGHT = 0.001


class Experts(nn.Module):
    """Top-k routed experts, two-layer perceptrons with ReLU.

    Args:
        width: Channels of a token.
        hidden: Hidden width of each expert.
        count: Number of experts.
        chosen: Number of experts per token.
        dropout: Dropout probability inside the experts.
    """

    def __init__(self, width: int, hidden: int, count: int, chosen: int, dropout: float) -> None:
        super().__init__()
        self.chosen = chosen
        self.router = nn.Linear(width, count)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
            for _ in range(count)
        )

    def forward(self, tokens_NTC: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Route tokens (N, T, C); returns the mixed outputs (N, T, C) and the weighted losses of the router."""
        logits_NTE = self.router(tokens_NTC)
        top_NTK, index_NTK = logits_NTE.topk(self.chosen, dim=-1)
        # Experts that were not chosen get weight 0. All experts compute all tokens: both are few, and fixed shapes keep
        # the score of a crop independent of the other crops of its batch.
        gates_NTE = torch.zeros_like(logits_NTE).scatter(-1, index_NTK, top_NTK.softmax(dim=-1))
        answers_NTCE = torch.stack([expert(tokens_NTC) for expert in self.experts], dim=-1)
        mixed_NTC = (answers_NTCE * gates_NTE.unsqueeze(-2)).sum(dim=-1)
        return mixed_NTC, self._losses(logits_NTE, index_NTK)

    def _losses(self, logits_NTE: Tensor, index_NTK: Tensor) -> dict[str, Tensor]:
        """Balance and router z losses, weighted.

        Balance: E times the sum over experts of share of tokens times mean probability (K if tokens are spread evenly).
        Router z: the mean squared log-sum-exp of the logits, which keeps them small.
        """
        count = logits_NTE.shape[-1]
        chosen_NTE = torch.zeros_like(logits_NTE).scatter(-1, index_NTK, 1.0)
        share_E = chosen_NTE.flatten(0, 1).mean(dim=0)
        probability_E = logits_NTE.softmax(dim=-1).flatten(0, 1).mean(dim=0)
        z = logits_NTE.logsumexp(dim=-1).square().mean()
        return {
            "balance": BALANCE_WEIGHT * count * (share_E * probability_E).sum(),
            "router_z": ROUTER_WEIGHT * z,
        }
