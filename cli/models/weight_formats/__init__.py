"""Formats of released weights, one module per family of networks.

Each maps a format's keys to the names of this project's networks, and says how its makers resized and cut pictures.
"""

from collections.abc import Mapping

from cli.models.weight_formats import hyperiqa, life_iqa, loda, musiq, smart_iqa
from cli.models.weight_formats.base import Format, Weights

__all__ = ["FORMATS", "Format", "Weights"]

FORMATS: Mapping[str, Format] = {
    "smart": smart_iqa.RELEASED,
    "hyperiqa": hyperiqa.RELEASED,
    "pyiqa-hyperiqa": hyperiqa.PYIQA,
    "pyiqa-musiq": musiq.PYIQA,
    "google-musiq": musiq.GOOGLE,
    "loda": loda.LEARNER,
    "life": life_iqa.TRAINING,
}
"""All formats by name, as ``smart-iqa models import --format`` takes them."""
