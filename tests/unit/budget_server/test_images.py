import io
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageChops, ImageFile, ImageOps

from budget_server import images
from budget_server.errors import InvalidImage
from budget_server.images import Normalised, normalised

# Pillow warns of what it finds in the broken files of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

ORIENTATION = ExifTags.Base.Orientation
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
PROFILE = b"\0" * 16 + b"RGB " + b"\0" * 108


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(result: Normalised) -> Image.Image:
    image = Image.open(io.BytesIO(result.data))
    image.load()
    assert Image.MIME[image.format or ""] == result.media_type
    assert image.mode == "RGB"
    assert "transparency" not in image.info
    assert not getattr(image, "is_animated", False) or image.format == "MPO"
    assert image.getexif().get(ORIENTATION, 1) == 1
    return image


def pixel(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    value = opened(normalised(data)).getpixel(at)
    assert isinstance(value, tuple)
    return value


def picture() -> Image.Image:
    """A picture without any symmetry, wider than it is tall."""
    image = Image.radial_gradient("L").crop((10, 90, 57, 123)).convert("RGB")
    image.paste(RED, (0, 0, 11, 5))
    image.paste(BLUE, (30, 20, 47, 33))
    return image


def sideways(kind: str, orientation: int = 6, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(picture(), kind, exif=exif, **options)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def after_header(*chunks: bytes) -> bytes:
    whole = saved(picture(), "PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def with_jpeg_segments(segments: bytes) -> bytes:
    whole = saved(picture(), "JPEG")
    return whole[:2] + segments + whole[2:]


FILES: dict[str, bytes] = {
    "jpeg": saved(picture(), "JPEG"),
    "progressive": saved(picture(), "JPEG", progressive=True),
    "png": saved(picture(), "PNG"),
    "webp": saved(picture(), "WEBP"),
    "webp-lossless": saved(picture(), "WEBP", lossless=True),
    "bmp": saved(picture(), "BMP"),
    "tiff": saved(picture(), "TIFF"),
    "tiff-lzw": saved(picture(), "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": saved(picture(), "TIFF", compression="jpeg"),
    "gif": saved(picture(), "GIF"),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}
ROTATED = {kind: sideways(kind, **options) for kind, options in _OPTIONS.items()}


# What is handed over


@pytest.mark.parametrize("name", [name for name in FILES if name != "gif"])
def test_what_is_upright_rgb_is_passed_on_unchanged(name: str) -> None:
    result = normalised(FILES[name])
    assert result.data is FILES[name]
    opened(result)


def test_the_first_images_of_an_mpo_are_passed_on_as_the_jpeg_they_are() -> None:
    data = saved(picture(), "MPO", save_all=True, append_images=[picture()])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
    result = normalised(data)
    assert result.data is data
    assert Image.open(io.BytesIO(result.data)).mode == "RGB"


@pytest.mark.parametrize("kind", ROTATED)
@pytest.mark.parametrize("orientation", range(2, 9))
def test_every_orientation_is_applied(kind: str, orientation: int) -> None:
    data = sideways(kind, orientation, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as image:
        right = ImageOps.exif_transpose(image)
    result = normalised(data)
    upright = opened(result)
    assert result.media_type == "image/png"
    assert upright.size == ((33, 47) if orientation > 4 else (47, 33)) == right.size
    assert ImageChops.difference(upright, right).getbbox() is None
    assert normalised(result.data).data is result.data


def test_an_orientation_in_xmp_is_applied() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert opened(normalised(saved(picture(), "JPEG", xmp=xmp))).size == (33, 47)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_exif_that_cannot_be_read_is_left_out(exif: bytes) -> None:
    result = normalised(saved(picture(), "PNG", exif=exif))
    assert opened(result).size == (47, 33)
    ImageOps.exif_transpose(Image.open(io.BytesIO(result.data)))


TRANSPARENT = {
    "RGBA": saved(Image.new("RGBA", (20, 40), (9, 9, 9, 0)), "PNG"),
    "RGBA-webp": saved(Image.new("RGBA", (20, 40), (9, 9, 9, 0)), "WEBP", lossless=True, exact=True),
    "RGBA-tiff": saved(Image.new("RGBA", (20, 40), (9, 9, 9, 0)), "TIFF"),
    "LA": saved(Image.new("LA", (20, 40), (9, 0)), "PNG"),
    "RGB with a transparent colour": saved(Image.new("RGB", (20, 40), RED), "PNG", transparency=RED),
    "L with a transparent shade": saved(Image.new("L", (20, 40), 9), "PNG", transparency=9),
    "P": saved(Image.new("P", (20, 40)), "PNG", transparency=0),
    "GIF": saved(Image.new("P", (20, 40)), "GIF", transparency=0),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_transparent_is_white(name: str) -> None:
    assert opened(normalised(TRANSPARENT[name])).size == (20, 40)
    assert pixel(TRANSPARENT[name]) == WHITE


def test_what_is_half_transparent_is_blended_with_white() -> None:
    assert pixel(saved(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), "PNG")) == (255, 127, 127)


def wide_png(colour_type: int, *samples: int) -> bytes:
    """One pixel of 16 bits a channel."""
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0))
    return png_of(head, chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (saved(Image.new("L", (3, 3), 200), "JPEG"), (200, 200, 200)),
        (saved(Image.new("1", (3, 3), 1), "PNG"), WHITE),
        (saved(Image.new("RGB", (3, 3), BLUE).convert("P"), "PNG"), BLUE),
        (saved(Image.new("RGB", (3, 3), BLUE), "GIF"), BLUE),
        (saved(Image.new("CMYK", (3, 3), (0, 255, 255, 0)), "TIFF"), RED),
        (saved(Image.new("CMYK", (3, 3), (0, 255, 255, 0)), "JPEG", quality=100), (254, 0, 0)),
        (saved(Image.new("I;16", (3, 3), 0xC8FF), "PNG"), (200, 200, 200)),
        (saved(Image.new("I;16", (3, 3), 0xFFFF), "TIFF"), WHITE),
        (saved(Image.new("I;16B", (3, 3), 0x8000), "TIFF"), (128, 128, 128)),
        (wide_png(0, 0xFFFF), WHITE),
        (wide_png(2, 0xFFFF, 0x80FF, 0x0100), (255, 128, 1)),
        (wide_png(6, 0xFFFF, 0x80FF, 0x0100, 0), WHITE),
    ],
)
def test_every_mode_becomes_rgb_of_8_bits(data: bytes, colour: tuple[int, ...]) -> None:
    result = normalised(data)
    assert result.media_type == "image/png"
    assert result.data[24] == 8
    found = pixel(data)
    assert all(abs(a - b) <= 1 for a, b in zip(found, colour, strict=True)), found


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert normalised(data).media_type == "image/png"
    assert pixel(data) == RED


def test_the_pixels_are_not_changed_by_encoding_them_again() -> None:
    palette = picture().quantize(64)
    for size in [(47, 33), (1, 1), (5, 64), (5, 65), (3, 129)]:
        image = palette.resize(size)
        again = opened(normalised(saved(image, "PNG")))
        assert ImageChops.difference(again, image.convert("RGB")).getbbox() is None


def test_a_colour_profile_is_kept_where_it_still_holds() -> None:
    assert opened(normalised(sideways("JPEG", icc_profile=PROFILE))).info["icc_profile"] == PROFILE
    cmyk = saved(Image.new("CMYK", (3, 3)), "JPEG", icc_profile=PROFILE.replace(b"RGB ", b"CMYK"))
    assert "icc_profile" not in opened(normalised(cmyk)).info
    large = sideways("JPEG", icc_profile=PROFILE + b"\0" * images.MAX_PROFILE)
    assert "icc_profile" not in opened(normalised(large)).info


# What is refused


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        saved(Image.new("RGB", (3, 3)), "ICO"),
        saved(Image.new("RGB", (3, 3)), "PPM"),
        saved(Image.new("RGB", (3, 3)), "EPS"),
    ],
)
def test_what_is_no_supported_image_is_told_which_are(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="BMP, GIF, JPEG, PNG, TIFF and WebP") as caught:
        normalised(data)
    assert (caught.value.status, caught.value.code) == (422, "InvalidImage")


# What may miss without a pixel missing: a GIF's last byte and the end of its last block, a BMP's padding.
SPARE = {"gif": 2, "bmp": 3}


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused(name: str) -> None:
    data = FILES[name]
    for length in range(0, len(data) - SPARE.get(name, 0), 7 if len(data) > 3000 else 3):
        with pytest.raises(InvalidImage):
            normalised(data[:length])
    with pytest.raises(InvalidImage, match="cut off"):
        normalised(data[: len(data) - SPARE.get(name, 0) - 1])


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "webp", "webp-lossless"])
def test_a_cut_file_is_refused_whatever_the_predictor_sets(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = FILES[name]
    for length in (len(data) // 2, len(data) - 20, len(data) - 1):
        with pytest.raises(InvalidImage):
            normalised(data[:length])


def test_damaged_pixel_data_of_a_png_is_refused() -> None:
    data = bytearray(FILES["png"])
    data[data.index(b"IDAT") + 200] ^= 1
    with pytest.raises(InvalidImage):
        normalised(bytes(data))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_meaning_as_rgb_are_refused(mode: str) -> None:
    with pytest.raises(InvalidImage, match=f"mode {mode}"):
        normalised(saved(Image.new(mode, (3, 3)), "TIFF"))


def patched(name: str, *patches: tuple[int, bytes]) -> bytes:
    data = bytearray(FILES[name])
    for at, content in patches:
        data[at : at + len(content)] = content
    return bytes(data)


def tiff(width: int, height: int, tile: int) -> bytes:
    """A deflated grey TIFF of one tile."""
    content = zlib.compress(b"\0" * 256)
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 325: len(content)}
    tags[324] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4 + content


def test_a_tiled_tiff_is_decoded() -> None:
    assert opened(normalised(tiff(10, 12, 16))).size == (10, 12)


def vast_gif() -> bytes:
    data = bytearray(saved(Image.new("L", (4, 4)), "GIF"))
    data[6:10] = b"\xff\xff\xff\xff"
    return bytes(data)


SIZE_OF_SOF = FILES["jpeg"].index(b"\xff\xc0") + 5
BOMBS: dict[str, bytes] = {
    "png": png_of(header(20_000, 20_000), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")),
    "png, a little too large": png_of(
        header(8193, 8192), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")
    ),
    "jpeg": patched("jpeg", (SIZE_OF_SOF, b"\xff\xdc\xff\xdc")),
    "webp": b"RIFF"
    + struct.pack("<I", 22)
    + b"WEBPVP8X"
    + struct.pack("<I", 10)
    + b"\0" * 4
    + b"\xff\x3f\0" * 2,
    "webp-lossy": patched("webp", (26, b"\xff\x3f\xff\x3f")),
    "webp-lossless": patched("webp-lossless", (21, b"\xff\xff\xff\x0f")),
    "bmp": patched("bmp", (18, struct.pack("<ii", 60_000, 60_000))),
    "gif": vast_gif(),
    "tiff": tiff(60_000, 60_000, 16),
    "tiff with a giant tile": tiff(16, 16, 32_768),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("limit", [None, Image.MAX_IMAGE_PIXELS])
def test_what_is_too_large_is_refused_before_it_is_decoded(
    name: str, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    with pytest.raises(InvalidImage) as caught:
        normalised(BOMBS[name])
    if limit is None:
        assert f"decodes {images.MAX_PIXELS} at most" in caught.value.detail


def test_the_largest_image_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 47 * 33)
    for data in FILES.values():
        normalised(data)
    monkeypatch.setattr(images, "MAX_PIXELS", 47 * 33 - 1)
    for data in FILES.values():
        with pytest.raises(InvalidImage, match="47 x 33"):
            normalised(data)


def many_scans(count: int) -> bytes:
    data = FILES["progressive"]
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def test_a_jpeg_may_have_some_scans() -> None:
    opened(normalised(many_scans(20)))


NOTE = chunk(b"tEXt", b"a\0b")
TEXT_BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 20_000_000))
RUN_LENGTH = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 4, 4, 1, 8, 1, 0, 0, 0, 0, 0)
SLOW: dict[str, Callable[[], bytes]] = {
    "scans": lambda: many_scans(100_000),
    "empty segments": lambda: with_jpeg_segments(b"\xff\xe1\0\2" * 2_000_000),
    "exif segments": lambda: with_jpeg_segments((b"\xff\xe1\x01\x08Exif\0\0" + b"x" * 256) * 90_000),
    "fill bytes": lambda: with_jpeg_segments(b"\xff" * 20_000_000),
    "junk": lambda: with_jpeg_segments(b"x" * 20_000_000),
    "chunks": lambda: after_header(NOTE * 2_000_000),
    "text": lambda: after_header(TEXT_BOMB),
    "profile": lambda: after_header(chunk(b"iCCP", b"a\0\0" + zlib.compress(b"x" * 20_000_000))),
    "run-length bmp": lambda: RUN_LENGTH + b"\0\2\xff\xff" * 1_000_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_what_would_take_long_is_refused_at_once(name: str) -> None:
    data = SLOW[name]()
    started = time.perf_counter()
    with pytest.raises(InvalidImage):
        normalised(data)
    assert time.perf_counter() - started < 2


def test_stuffed_bytes_are_skipped_in_linear_time() -> None:
    data = FILES["jpeg"][:-2] + b"\xff\0" * 4_000_000 + b"\xff\xd9"
    started = time.perf_counter()
    opened(normalised(data))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "error", [ValueError("x"), MemoryError(), RecursionError(), KeyError(1), SyntaxError("x"), EOFError()]
)
def test_whatever_pillow_raises_is_an_invalid_image(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(InvalidImage, match="The BMP image is broken"):
        normalised(FILES["bmp"])


SEEDS = [*FILES.values(), *ROTATED.values(), *TRANSPARENT.values(), many_scans(3), wide_png(6, 1, 2, 3, 4)]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 8))):
        # The frame of a file, where most of the branches hang, is mostly at its start.
        most = draw(st.sampled_from([64, 512, max(len(data), 1)]))
        at = draw(st.integers(0, min(most, len(data))))
        removed = draw(st.integers(0, 8))
        data[at : at + removed] = draw(st.one_of(st.binary(max_size=8), st.just(b"\xff" * removed)))
    if draw(st.booleans()) and data.startswith(b"\x89PNG"):
        data = with_right_checksums(data)
    return bytes(data)


def with_right_checksums(data: bytearray) -> bytearray:
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return data


@settings(max_examples=600, deadline=10_000, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_hostile_bytes_give_an_rgb_image_or_an_invalid_image(data: bytes) -> None:
    try:
        result = normalised(data)
    except InvalidImage:
        return
    opened(result)


def test_pillow_is_not_imported_with_the_module() -> None:
    code = "import sys, budget_server.images; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
