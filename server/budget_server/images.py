"""What /predict_image hands over: an upright RGB image, whatever was uploaded, or an answer saying why not.

`inputs` makes the upload of it, `endpoints` calls `normalised` in a thread. Callers' bytes are hostile here:
what Pillow would take too long or too much memory for is refused before it sees the file (`_CHECKS`), it is
asked for one format only, the one the first bytes name, and the size is compared before a pixel is decoded.
Pillow's process-wide settings belong to the predictor: MAX_IMAGE_PIXELS does not matter here, and where it
sets LOAD_TRUNCATED_IMAGES, JPEG, PNG and WebP files must be whole all the same.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from budget_server.errors import InvalidImage

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# Cameras called "64 megapixels" make a few more than 64 000 000.
MAX_PIXELS: Final = 64 * 1024 * 1024
# Each scan of a progressive JPEG goes through the whole image; encoders make about ten.
MAX_SCANS: Final = 100
# Pillow copies all EXIF segments so far for each further one; cameras write one or two.
MAX_EXIF_SEGMENTS: Final = 64
# Pillow handles the pieces of a file's frame one by one in Python.
MAX_PIECES: Final = 100_000
# Pillow refuses to read larger profiles back from a PNG.
MAX_PROFILE: Final = 1024 * 1024

_ORIENTATION: Final = 0x0112
_TILE_WIDTH, _TILE_LENGTH, _BITS_PER_SAMPLE = 0x0142, 0x0143, 0x0102
_ROWS_AT_A_TIME: Final = 64
_SUPPORTED: Final = "BMP, GIF, JPEG, PNG, TIFF and WebP"
_MAGIC: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"RIFF", "WEBP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
)
# A JPEG's marker: not a stuffed zero, a restart marker, or a fill byte.
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1


@dataclass(frozen=True, slots=True)
class Normalised:
    """An image file that holds one upright image of mode RGB, 8 bits a channel."""

    data: bytes
    media_type: str


def normalised(data: bytes) -> Normalised:
    """The image as a predictor gets it; raises `InvalidImage` only. CPU bound: call it in a thread."""
    kind = _kind(data)
    _CHECKS[kind](data)
    try:
        return _decoded(data, kind)
    except InvalidImage:
        raise
    except Exception as error:
        # Pillow raises far more than it documents. Its texts name our objects, so they are not passed on.
        raise _broken(kind) from error


def _kind(data: bytes) -> str:
    for magic, kind in _MAGIC:
        if data.startswith(magic) and (kind != "WEBP" or data[8:12] == b"WEBP"):
            return kind
    raise InvalidImage(f"The upload is not an image of a supported format. Send one of {_SUPPORTED}.")


def _broken(kind: str) -> InvalidImage:
    return InvalidImage(f"The {kind} image is broken or cut off, and cannot be decoded. Send the whole file.")


def _limit_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InvalidImage(
            f"The image has {width} x {height} pixels, and this server decodes {MAX_PIXELS} at most. "
            "Send a smaller one."
        )


# Before Pillow


def _check_jpeg(data: bytes) -> None:
    """Walk the markers up to the end of the first image: it must be there, after a sane number of pieces."""
    scans = exifs = 0
    position = 2
    for _ in range(MAX_PIECES):
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            break
        marker = data[found.start() + 1]
        if marker == _END and scans:
            return
        scans += marker == _SCAN
        exifs += marker == _APP1 and data.startswith(b"Exif\0\0", found.end() + 2)
        # Pillow skips what lies between segments byte by byte in Python.
        junk = 0 if scans else found.start() - position
        if scans > MAX_SCANS or exifs > MAX_EXIF_SEGMENTS or junk > MAX_PIECES:
            break
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    raise _broken("JPEG")


def _check_png(data: bytes) -> None:
    """Walk the chunks up to the last: none missing, no pixel data damaged, not too many."""
    view = memoryview(data)
    position = 8
    try:
        _limit_pixels(*struct.unpack_from(">II", data, 16))
        for _ in range(MAX_PIECES):
            length, name = struct.unpack_from(">I4s", data, position)
            (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
            if name == b"IDAT" and zlib.crc32(view[position + 4 : position + 8 + length]) != checksum:
                break
            if name == b"IEND":
                return
            position += 12 + length
    except struct.error:
        pass
    raise _broken("PNG")


def _check_webp(data: bytes) -> None:
    """The size, since the decoder makes its canvas when the file is opened."""
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        raise _broken("WEBP")
    if kind == b"VP8X":
        size = int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[6:10])
        size = width & 0x3FFF, height & 0x3FFF
    else:
        raise _broken("WEBP")
    _limit_pixels(*size)


def _check_bmp(data: bytes) -> None:
    """No run-length encoding: Pillow decodes it in Python, a byte at a time."""
    if int.from_bytes(data[14:18], "little") >= 40 and int.from_bytes(data[30:34], "little") in (1, 2):
        raise InvalidImage("BMP images with run-length encoding are not supported. Send it as PNG.")


def _no_check(_data: bytes) -> None:
    """Pillow opens these without decoding, in time proportional to the file."""


_CHECKS: Final[dict[str, Callable[[bytes], None]]] = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "WEBP": _check_webp,
    "GIF": _no_check,
    "TIFF": _no_check,
    "BMP": _check_bmp,
}


# With Pillow


def _decoded(data: bytes, kind: str) -> Normalised:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        _limit_pixels(*image.size)
        deep = _more_than_8_bits(image, data)
        # Pillow turns a TIFF while it loads it, and then knows no orientation any more.
        turned = kind == "TIFF" and _orientation(image) != 1
        image.load()
        orientation = _orientation(image)
        plain = image.mode == "RGB" and not image.has_transparency_data and not _more_than_one(image)
        if plain and orientation == 1 and not deep and not turned:
            return Normalised(data, Image.MIME[kind])
        return Normalised(_png(_turned(image, orientation), image.info.get("icc_profile")), "image/png")


def _more_than_8_bits(image: "ImageFile", data: bytes) -> bool:
    """Whether other readers would find more in what Pillow calls RGB. Refuses a TIFF's giant tiles, too."""
    from PIL.TiffImagePlugin import TiffImageFile

    if not isinstance(image, TiffImageFile):
        return image.format == "PNG" and data[24] > 8
    tags = image.tag_v2
    # A tile is decoded whole, also where it is larger than the image.
    _limit_pixels(tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0))
    return bool(max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8)


def _more_than_one(image: "ImageFile") -> bool:
    # The further images of an MPO come after the end of what other readers take for a JPEG.
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))


def _orientation(image: "ImageFile") -> int:
    """1 to 8 as EXIF, else XMP, has it; 0 if what is there cannot be read, so that it is left out later."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in range(1, 9) else 0
    except Exception:
        return 0


def _turned(image: "Image", orientation: int) -> "Image":
    from PIL.Image import Transpose

    methods: dict[int, Transpose] = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    method = methods.get(orientation)
    return image if method is None else image.transpose(method)


def _rgb(image: "Image") -> "Image":
    """Mode RGB; what is transparent shows white, as on a page, not the colour that happens to be stored."""
    from PIL import Image

    if image.mode in {"I", "F", "LAB"}:
        raise InvalidImage(
            f"The image's pixels (mode {image.mode}) have no agreed meaning as RGB. "
            "Send RGB, grey, palette or CMYK of 8 or 16 bits a channel."
        )
    if image.mode.startswith("I;16"):
        # The upper byte, as Pillow itself takes it from 16-bit RGB.
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    page = Image.new("RGB", image.size, "white")
    page.paste(layer, mask=layer)
    return page


def _png(image: "Image", profile: bytes | None) -> bytes:
    """An RGB PNG without compression: it stays in this process, and Pillow's own takes far longer."""
    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 0))
    # Bytes 16 to 20 name the profile's colours: one for CMYK or grey says nothing about these pixels.
    if profile and len(profile) <= MAX_PROFILE and profile[16:20] == b"RGB ":
        _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile, 1))
    for piece in _stored(image):
        _write_chunk(file, b"IDAT", piece)
    _write_chunk(file, b"IEND", b"")
    return file.getvalue()


def _stored(image: "Image") -> Iterator[bytes]:
    """The pixels as zlib's format without compression; made RGB a few rows at a time, to save memory."""
    store = zlib.compressobj(level=0)
    width, height = image.size
    stride = width * 3
    for top in range(0, height, _ROWS_AT_A_TIME):
        rows = _rgb(image.crop((0, top, width, min(top + _ROWS_AT_A_TIME, height)))).tobytes()
        # Each row starts with the number of its filter: none.
        yield store.compress(b"".join(b"\0" + rows[at : at + stride] for at in range(0, len(rows), stride)))
    yield store.flush()


def _write_chunk(file: io.BytesIO, name: bytes, content: bytes) -> None:
    file.write(struct.pack(">I4s", len(content), name))
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(name))))
