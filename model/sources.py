"""The forms in which a picture may be handed to the offline scorer."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, uint8

from model import images
from model.contract import Contract

Source = Path | str | bytes | Image.Image | NDArray[np.uint8] | Tensor


def open_picture(source: Source, contract: Contract, limits: images.Limits) -> images.Picture:
    """Decode whatever form a picture is handed over in.

    Pillow images, arrays and tensors come with all their pixels, also where the contract would decode their files at
    a smaller scale.

    Raises:
        ImageError: The picture cannot be scored.
        OSError: The path cannot be read.
        ValueError: The array or tensor is not a picture.
    """
    if isinstance(source, bytes):
        return contract.decode(source, limits)
    if isinstance(source, (str, Path)):
        return contract.decode(Path(source).read_bytes(), limits)
    if isinstance(source, Tensor):
        source = _of_tensor(source)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or (source.ndim == 3 and source.shape[2] != 3):
            raise ValueError(f"an array must be uint8 (H, W, 3) or (H, W), not {source.dtype} {source.shape}")
        return images.from_image(Image.fromarray(source), limits)
    return images.from_image(source, limits)


def _of_tensor(tensor: Tensor) -> NDArray[np.uint8]:
    # Three columns of pixels are no picture, so the shape alone tells where the channels are.
    last = tensor.ndim == 3 and tensor.shape[2] == 3
    if tensor.dtype != uint8 or not (last or (tensor.ndim == 3 and tensor.shape[0] == 3)):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"a tensor must be uint8 (H, W, 3) or (3, H, W), not {kind} {tuple(tensor.shape)}")
    pixels: NDArray[np.uint8] = (tensor if last else tensor.permute(1, 2, 0)).detach().cpu().numpy()
    return pixels
