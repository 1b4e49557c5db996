"""Swin trunks without their copies.

A block of the training form rolls the map, cuts it into windows, adds the position bias and the shift mask, and puts
everything back: more time than its products take on a GPU. Here tokens are taken in window order by one gather and put
back by another; bias and mask are one tensor, made ahead of time; the scale of the queries is folded into their
weights; and GELU is fused into the layer before it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock, SwinTransformerStage
from torch import Tensor, nn

from model.inference.linear import FusedLinear


class FusedSwin(nn.Module):
    """A Swin trunk: patches, then stages, each giving its map.

    Args:
        features: timm's, as ``Backbone`` makes it, in evaluation mode.
        dtype: What it computes in.
    """

    def __init__(self, features: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        parts: Any = features
        # 8 bits of bf16 would round the pixels themselves: what reads them computes in fp32.
        self.patches = parts.patch_embed
        self.stages = nn.ModuleList(FusedStage(stage, dtype) for stage in _stages(features))

    @staticmethod
    def suits(features: nn.Module) -> bool:
        """Whether a trunk is a Swin transformer all of whose parts are known here, for one size of pictures."""
        stages = _stages(features)
        blocks = [block for stage in stages for block in stage.blocks]
        return bool(stages) and all(
            type(block) is SwinTransformerBlock
            and not block.dynamic_mask
            and type(block.mlp.act) is nn.GELU
            and isinstance(block.norm1, nn.LayerNorm)
            and not any(side % window for side, window in zip(*_sizes(block)[:2], strict=True))
            for block in blocks
        )

    def forward(self, crops_NCHW: Tensor) -> list[Tensor]:
        """Feature maps (N, H, W, C) as fp32."""
        tokens = self.patches(crops_NCHW).to(self.dtype)
        maps = []
        for stage in self.stages:
            tokens = stage(tokens)
            maps.append(tokens.float())
        return maps


class FusedStage(nn.Module):
    """A stage: perhaps the merging of patches, then blocks."""

    def __init__(self, stage: SwinTransformerStage, dtype: torch.dtype) -> None:
        super().__init__()
        self.merging = FusedMerging(stage.downsample, dtype) if isinstance(stage.downsample, PatchMerging) else None
        self.blocks = nn.ModuleList(FusedBlock(block, dtype) for block in stage.blocks)

    def forward(self, map_NHWC: Tensor) -> Tensor:
        """(N, H, W, C) to the stage's map, (N, H / 2, W / 2, 2 C) if it merges."""
        merged = map_NHWC if self.merging is None else self.merging(map_NHWC)
        tokens_NLC = merged.flatten(1, 2)
        for block in self.blocks:
            tokens_NLC = block(tokens_NLC)
        answer: Tensor = tokens_NLC.view(merged.shape)
        return answer


class FusedMerging(nn.Module):
    """Four neighbouring tokens to one."""

    def __init__(self, merging: PatchMerging, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = merging.norm.to(dtype)
        self.reduction = FusedLinear(merging.reduction, dtype=dtype)

    def forward(self, map_NHWC: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H / 2, W / 2, 2 C)."""
        count, height, width, channels = map_NHWC.shape
        pairs = map_NHWC.view(count, height // 2, 2, width // 2, 2, channels)
        merged: Tensor = self.reduction(self.norm(pairs.permute(0, 1, 3, 4, 2, 5).flatten(3)))
        return merged


class FusedBlock(nn.Module):
    """Attention within windows, then a perceptron, each added to what came in."""

    # What quantisation puts here are other modules.
    fc1: nn.Module
    fc2: nn.Module

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        attention: Any = block.attn
        self.heads = attention.num_heads
        self.area = attention.window_area
        self.norm1, self.norm2 = block.norm1.to(dtype), block.norm2.to(dtype)
        gain = torch.ones(attention.qkv.out_features, device=attention.qkv.weight.device)
        gain[: len(gain) // 3] = attention.scale
        self.qkv = FusedLinear(attention.qkv, dtype=dtype, gain=gain)
        self.proj = FusedLinear(attention.proj, dtype=dtype)
        self.fc1 = FusedLinear(block.mlp.fc1, "gelu", dtype)
        self.fc2 = FusedLinear(block.mlp.fc2, dtype=dtype)
        there, back = window_order(*_sizes(block))
        self.register_buffer("there", there.to(gain.device))
        self.register_buffer("back", back.to(gain.device))
        bias_hTT = attention._get_rel_pos_bias()
        mask = block.attn_mask
        # (windows of a crop, or 1 where all are alike; heads; tokens; tokens)
        self.register_buffer(
            "bias", (bias_hTT if mask is None else bias_hTT + mask.unsqueeze(1)).to(dtype).contiguous()
        )

    def forward(self, tokens_NLC: Tensor) -> Tensor:
        """(N, L, C) to the same."""
        tokens_NLC = tokens_NLC + self._attend(self.norm1(tokens_NLC))
        answer: Tensor = tokens_NLC + self.fc2(self.fc1(self.norm2(tokens_NLC)))
        return answer

    def _attend(self, tokens_NLC: Tensor) -> Tensor:
        count, length, channels = tokens_NLC.shape
        windowed = tokens_NLC.index_select(1, self.get_buffer("there"))
        qkv = self.qkv(windowed).view(-1, self.area, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._bias(count), scale=1.0)
        mixed = mixed.transpose(1, 2).reshape(count, length, channels)
        answer: Tensor = self.proj(mixed).index_select(1, self.get_buffer("back"))
        return answer

    def _bias(self, count: int) -> Tensor:
        bias = self.get_buffer("bias")
        return bias if len(bias) == 1 else bias.repeat(count, 1, 1, 1)


def window_order(resolution: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The order of a map's tokens, window by window after the cyclic shift, and the order that undoes it.

    Args:
        resolution: Height and width of the map, multiples of the window's.
        window: Height and width of a window.
        shift: How far the map is rolled up and to the left first.

    Returns:
        Two permutations of H x W places, each (L,).
    """
    (height, width), (tall, wide) = resolution, window
    places = torch.arange(height * width).view(height, width).roll((-shift[0], -shift[1]), dims=(0, 1))
    there = places.view(height // tall, tall, width // wide, wide).transpose(1, 2).flatten()
    return there, there.argsort()


def _sizes(block: Any) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    return block.input_resolution, block.window_size, block.shift_size


def _stages(features: nn.Module) -> list[SwinTransformerStage]:
    return [module for module in features.children() if isinstance(module, SwinTransformerStage)]
