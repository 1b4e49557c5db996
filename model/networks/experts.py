"""A mixture of experts: each token goes through the few that a router chooses for it.

Source: Life-IQA, section III and its released code. Where paper and code disagree, the balance loss uses the full
softmax (paper, the Switch form: experts that were not chosen get a gradient too), all else follows the code.
"""

import torch
from torch import Tensor, nn

BALANCE_WEIGHT = 0.01
ROUTER_WEIGHT = 0.001


class Experts(nn.Module):
    """Top-k routed experts, two-layer perceptrons with ReLU.

    Args:
        width: Channels of a token.
        hidden: Width of each expert.
        count: Experts.
        chosen: Experts that a token goes through.
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
        """Route tokens (N, T, C); the mixed answers (N, T, C) and the weighted losses of the router."""
        logits_NTE = self.router(tokens_NTC)
        top_NTK, index_NTK = logits_NTE.topk(self.chosen, dim=-1)
        # Experts that were not chosen weigh nothing. All compute every token: there are few of both, and fixed shapes
        # keep a crop's answer independent of its company.
        gates_NTE = torch.zeros_like(logits_NTE).scatter(-1, index_NTK, top_NTK.softmax(dim=-1))
        answers_NTCE = torch.stack([expert(tokens_NTC) for expert in self.experts], dim=-1)
        mixed_NTC = (answers_NTCE * gates_NTE.unsqueeze(-2)).sum(dim=-1)
        return mixed_NTC, self._losses(logits_NTE, index_NTK)

    def _losses(self, logits_NTE: Tensor, index_NTK: Tensor) -> dict[str, Tensor]:
        """Balance: E times the sum over experts of the share of tokens times the mean probability (K when even).

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
