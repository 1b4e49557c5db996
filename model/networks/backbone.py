"""Any timm backbone with hierarchical features, seen as four NCHW feature maps."""

from typing import Any

import timm
from torch import Tensor, nn

LEVELS = 4


class Backbone(nn.Module):
    """The last four feature levels of a timm network, strides 4, 8, 16 and 32.

    Swin hands its levels over as NHWC, convolutional networks as NCHW; callers always see NCHW.

    Args:
        name: timm model name; it must offer at least four feature levels.
        pretrained: Fetch timm's weights from its hub.
        drop_path: Stochastic depth rate, for the networks that have it.

    Raises:
        ValueError: The name is unknown to timm or has fewer than four feature levels.
    """

    def __init__(self, name: str, *, pretrained: bool = False, drop_path: float = 0.0) -> None:
        super().__init__()
        if not timm.is_model(name.split(".", maxsplit=1)[0]):
            raise ValueError(f"timm knows no backbone called {name!r}")
        try:
            self.features = _create(name, pretrained, {"drop_path_rate": drop_path})
        except TypeError as error:
            # Networks without stochastic depth do not know the option; those with it may default to something above 0.
            if drop_path:
                raise ValueError(f"backbone {name!r} has no stochastic depth: drop_path must be 0") from error
            self.features = _create(name, pretrained, {})
        feature_info: Any = self.features.feature_info
        self.channels: tuple[int, ...] = tuple(feature_info.channels())
        if len(self.channels) != LEVELS:
            raise ValueError(f"backbone {name!r} offers {len(self.channels)} feature levels, {LEVELS} are needed")
        self.channels_last = str(getattr(self.features, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, crops_NCHW: Tensor) -> list[Tensor]:
        """Compute the four feature maps of normalised crops (N, 3, H, W), shallowest first, each (N, C_i, H_i, W_i)."""
        maps: list[Tensor] = self.features(crops_NCHW)
        return [map_.permute(0, 3, 1, 2) for map_ in maps] if self.channels_last else maps


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    try:
        # Negative indices count from the deepest level: convolutional networks put a stride 2 level first.
        network: nn.Module = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=tuple(range(-LEVELS, 0)), **options
        )
    except (IndexError, AssertionError, RuntimeError, AttributeError) as error:
        raise ValueError(f"backbone {name!r} cannot be used with {LEVELS} feature levels: {error}") from error
    return network
