"""How two small copies of pictures lie over each other: shifted, and one of them perhaps a little larger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from model.picking.look import SIDE

SCALES = (1.0, 0.93, 1.07, 0.86, 1.16)
"""Sizes of one picture beside the other that are tried, the likeliest first."""
SURE, HOPELESS = 0.8, 0.2
"""Agreement from which no other size is tried, and below which none is."""
_FINE, _COARSE = 0.7, 5.0
"""Deviations of the Gaussians between which structures are compared, in pixels of the small copy."""
_DARK = 6.0
"""Added to brightness before its logarithm, so that noise in shadows is no structure."""
_FLAT = 0.05
"""Deviation of a structure, in stops, that is no more than noise."""
_NOTHING = 40.0
"""Energy of structures, over the whole copy, that is too little to tell pictures by."""
_SIZE = (2 * SIDE, 2 * SIDE)


@dataclass(frozen=True)
class Alignment:
    """Where two pictures agree best.

    Attributes:
        agreement: Correlation of their structures where they lie over each other, -1 to 1.
        across: How far the second one lies to the right, as a share of the width.
        down: How far it lies down, as a share of the height.
        scale: By what the second one is scaled to lie over the first.
    """

    agreement: float
    across: float
    down: float
    scale: float


class Structure:
    """The structures of a small copy, ready to be compared. Takes 140 kB.

    Args:
        luma_HW: Its brightness, (SIDE, SIDE).
    """

    def __init__(self, luma_HW: NDArray[np.uint8]) -> None:
        self._luma_HW = luma_HW
        self._own = self._at(1.0)

    def at(self, scale: float) -> "_Spectra":
        """Spectra of its structures at another size, cut off or surrounded by nothing."""
        return self._own if scale == 1 else self._at(scale)

    def _at(self, scale: float) -> "_Spectra":
        reach = min(SIDE / scale, SIDE) / 2
        box = (SIDE / 2 - reach, SIDE / 2 - reach, SIDE / 2 + reach, SIDE / 2 + reach)
        side = min(round(SIDE * scale / 2) * 2, SIDE)
        image = Image.fromarray(self._luma_HW).convert("F")
        return _spectra(np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box)))


class _Spectra(NamedTuple):
    """Spectra of structures and of their squares."""

    structure: NDArray[np.complex64]
    energy: NDArray[np.complex64]


def _spectra(pixels_HW: NDArray[np.float32]) -> _Spectra:
    """Spectra of the structures of a square, in the middle of one of ``SIDE``."""
    light_HW = np.log2(pixels_HW + _DARK)
    bands_HW = ndimage.gaussian_filter(light_HW, _FINE) - ndimage.gaussian_filter(light_HW, _COARSE)
    # A horizon counts no more than what lies before it.
    bands_HW = bands_HW / np.sqrt(ndimage.gaussian_filter(bands_HW**2, _COARSE) + _FLAT**2)
    bands_HW = np.pad(bands_HW, (SIDE - len(bands_HW)) // 2)
    return _Spectra(fft.rfft2(bands_HW, _SIZE), fft.rfft2(bands_HW**2, _SIZE))


_ONES = fft.rfft2(np.ones((SIDE, SIDE), np.float32), _SIZE)
_SHIFTS = fft.fftfreq(2 * SIDE, 1 / (2 * SIDE)) / SIDE
_OVERLAP = np.outer(*2 * ((1 - np.abs(_SHIFTS)).clip(0),))


def align(one: Structure, other: Structure, *, overlap: float, scales: Sequence[float] = SCALES) -> Alignment:
    """Lay one picture over another in every way, and tell the best.

    Args:
        one: The first one.
        other: The second one.
        overlap: Least share of the area that must lie over each other.
        scales: Sizes of the second one to try.
    """
    best = Alignment(-1.0, 0.0, 0.0, 1.0)
    for scale in scales:
        agreement, down, across = _best_shift(one.at(1), other.at(scale), overlap)
        if agreement > best.agreement:
            best = Alignment(agreement, across, down, scale)
        if not HOPELESS <= best.agreement < SURE:
            break
    return best


def _best_shift(one: _Spectra, other: _Spectra, overlap: float) -> tuple[float, float, float]:
    """The best agreement, and how far down and to the right the second one lies there."""
    ones = _ONES.conj()
    spectra = np.stack([one.structure * other.structure.conj(), one.energy * ones, _ONES * other.energy.conj()])
    products, own, others = fft.irfft2(spectra, _SIZE)
    allowed = overlap <= _OVERLAP
    agreement = np.where(allowed, products / (np.sqrt((own * others).clip(0)) + _NOTHING * _OVERLAP + 1e-9), -1)
    place = np.unravel_index(int(agreement.argmax()), agreement.shape)
    return float(agreement[place]), float(_SHIFTS[place[0]]), float(_SHIFTS[place[1]])
