"""How a photo was taken, from its EXIF."""

import pi_heif
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from model.images import capture
from model.images.capture import CHARACTERS, Capture
from tests.conftest import encode, photo, sample


def exif(**fields: object) -> Image.Exif:
    """EXIF with these fields, by their names."""
    made = Image.Exif()
    own = made.get_ifd(ExifTags.IFD.Exif)
    for name, value in fields.items():
        (made if name in ("Make", "Model") else own)[ExifTags.Base[name].value] = value
    return made


FULL = {
    "Make": "Canon\0",
    "Model": "EOS R6",
    "BodySerialNumber": "0123",
    "DateTimeOriginal": "2026:11:30 10:20:30",
    "SubsecTimeOriginal": "25",
    "ExposureTime": 1 / 100,
    "FNumber": 4.0,
    "ISOSpeedRatings": 1600,
    "ExposureBiasValue": -1.5,
    "ExposureMode": 2,
    "SubjectDistance": 2.5,
}


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_what_the_camera_wrote(format_: str) -> None:
    found = capture.read(encode(photo(), format_, exif=exif(**FULL).tobytes()))
    assert found.taken == 1_796_034_030.25
    assert found.camera == "Canon EOS R6 0123"
    # 1/100 s at f/4 and ISO 1600: one stop of light.
    assert found.exposure == pytest.approx(0, abs=1e-6)
    assert found.bias == pytest.approx(-1.5)
    assert found.distance == pytest.approx(2.5)
    assert found.bracketed


def test_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    assert capture.read(sample("HEIC")) == Capture()
    opened = pi_heif.open_heif

    def with_exif(data: bytes) -> object:
        heif = opened(data)
        heif.info["exif"] = exif(Make="Apple").tobytes()
        return heif

    monkeypatch.setattr(pi_heif, "open_heif", with_exif)
    assert capture.read(sample("HEIC")).camera == "Apple"


@pytest.mark.parametrize(
    "fields",
    [
        {"DateTimeOriginal": "yesterday"},
        {"DateTimeOriginal": "2026:13:45 99:99:99"},
        {"DateTimeOriginal": "0000:00:00 00:00:00"},
        {"ExposureTime": IFDRational(1, 0), "FNumber": 4.0, "ISOSpeedRatings": 100},
        {"ExposureTime": 0.01, "FNumber": 0.0, "ISOSpeedRatings": 100},
        {"ExposureTime": 0.01, "FNumber": 4.0},
        {"SubjectDistance": IFDRational(0, 0)},
        {"SubjectDistance": IFDRational(10**40, 1)},
        {"ExposureBiasValue": "much"},
    ],
)
def test_what_cannot_be_is_left_out(fields: dict[str, object]) -> None:
    assert capture.read(encode(photo(), exif=exif(**fields))) == Capture()


def test_names_that_are_no_text() -> None:
    found = capture.read(encode(photo(), exif=exif(Make="A\r\nB", Model="C" * 500))).camera
    assert found.startswith("AB CCC")
    assert len(found) == CHARACTERS


def test_a_png_without_exif_is_not_decoded_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(photo(), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda _: pytest.fail("it was decoded"))
    assert capture.read(data) == Capture()


@pytest.mark.parametrize("data", [b"", b"no picture", encode(photo())[:50], encode(photo(), "BMP")])
def test_files_that_say_nothing(data: bytes) -> None:
    assert capture.read(data) == Capture()
