"""What the offline scorer accepts as a picture: a path, bytes, a Pillow image, an array, a tensor."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, uint8

from model import images
from model.contract import Contract

PictureSource = Path | str | bytes | Image.Image | NDArray[np.uint8] | Tensor


def open_picture(source: PictureSource, contract: Contract, limits: images.Limits) -> images.Picture:
    """Decode a picture that is given in any of these forms.

    Pillow images, arrays and tensors keep all their pixels, even where the contract decodes files at a smaller scale.

    Args:
        source: A path, encoded bytes, a Pillow image, a uint8 array (H, W, 3) or (H, W), or a uint8 tensor (H, W, 3) or
            (3, H, W).
        contract: How files are decoded.
        limits: Sizes of pictures to accept.

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
    # No picture is three pixels wide, so the shape alone shows which axis has the channels.
    last = tensor.ndim == 3 and tensor.shape[2] == 3
    if tensor.dtype != uint8 or not (last or (tensor.ndim == 3 and tensor.shape[0] == 3)):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"a tensor must be uint8 (H, W, 3) or (3, H, W), not {kind} {tuple(tensor.shape)}")
    pixels: NDArray[np.uint8] = (tensor if last else tensor.permute(1, 2, 0)).detach().cpu().numpy()
    return pixels
