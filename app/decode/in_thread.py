"""Decoding in a thread of the service itself, where there are no decoder processes."""

from collections.abc import Callable

import numpy as np

from app.decode.sandbox import DecodeRequest, Resized
from model.maps import map_crops as mapping
from model.maps import overlay
from model.picking.look import Look


def decode_here(data: bytes, request: DecodeRequest, admit: Callable[[int], object]) -> Resized:
    """Decode in this thread; same arguments and result as ``Sandbox.decode``."""
    contract = request.contract
    picture = contract.decode(data, request.limits, admit, sha256=request.sha256)
    small = overlay.shrink(picture.image) if request.preview else None
    copy_HWC = np.asarray(mapping.resized(picture, contract)) if request.map_crops else None
    close = contract.details(picture, pixels_HWC := np.asarray(contract.resized(picture)), request.crops)
    return Resized(picture.facts, pixels_HWC, small, copy_HWC, close, Look.at(picture, data) if request.look else None)
