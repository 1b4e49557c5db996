"""The default checkpoint in plain torch, for the peers: the same decode and crops, no engine."""

import torch
from torch import Tensor

from model import checkpoint
from model.options import DEFAULT_CHECKPOINT


class EagerNetwork:
    """The network in eager fp32, on CUDA where there is some.

    Not thread-safe: one thread at a time may call ``scores``.
    """

    def __init__(self) -> None:
        loaded = checkpoint.load(DEFAULT_CHECKPOINT)
        self.contract = loaded.contract
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = loaded.network.to(self.device)
        self.mean, self.std = (
            torch.tensor(values, device=self.device).view(3, 1, 1) for values in (self.contract.mean, self.contract.std)
        )

    def crops(self, data: bytes) -> Tensor:
        """Decode a picture and cut its crops, (N, 3, H, W) uint8."""
        return torch.tensor(self.contract.views(self.contract.decode(data)).items).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def scores(self, pictures: list[Tensor]) -> list[float]:
        """Score the crops of some pictures, those of one shape in one forward pass; 0 to 100 for each picture."""
        scores = [0.0] * len(pictures)
        for shape in {crops.shape[1:] for crops in pictures}:
            places = [place for place, crops in enumerate(pictures) if crops.shape[1:] == shape]
            crops_NCHW = torch.cat([pictures[place] for place in places]).to(self.device).float() / 255
            outputs_N = self.network((crops_NCHW - self.mean) / self.std).score.double().cpu().numpy()
            raw = torch.tensor(self.contract.raw(outputs_N)).split([len(pictures[place]) for place in places])
            for place, part in zip(places, raw, strict=True):
                scores[place] = self.contract.scale.to_percent(float(part.mean()))
        return scores
