"""A DICOM file whose header was read and checked: the one file that needs the [dicom] extra."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

from adae_edge.contract import Window
from adae_edge.decoding.codestream import (
    BASELINE,
    JPEG_2000,
    JPEG_LS,
    LOSSLESS,
    check_codestream,
)
from adae_edge.decoding.dicom_bytes import (
    UNKNOWN,
    Order,
    Refused,
    Span,
    check_end,
    frame_spans,
    held,
    inflated,
    pixels_after,
)
from adae_edge.decoding.dicom_header import read_attributes, value_of
from adae_edge.decoding.dicom_pixels import (
    GREY,
    Layout,
    colour,
    declared_frames,
    native,
    native_frames,
    palette,
    unpacked,
)
from adae_edge.decoding.dicom_values import are_stored, grey, modality_values
from adae_edge.decoding.stored import Stored, state_of
from adae_edge.errors import FrameError, NoPicture, printable
from adae_edge.extras import needs
from adae_edge.interface import check_size

with needs("Reading DICOM files", "dicom"):
    import pylibjpeg  # noqa: F401  of its decoders pydicom finds
    from pydicom.dataset import Dataset
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut, convert_color_space
    from pydicom.uid import UID
    from rle.rle import decode_segment

_uid = functools.lru_cache(maxsize=64)(UID)  # which checks it at length
_RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
# The decoder of each compressed syntax, by pydicom's name of it, and what it decodes.
_DECODERS = {
    f"{_JPEG}50": ("pillow", BASELINE),
    f"{_JPEG}51": ("pillow", BASELINE),
    f"{_JPEG}57": ("gdcm", LOSSLESS),
    f"{_JPEG}70": ("gdcm", LOSSLESS),
    f"{_JPEG}80": ("pyjpegls", JPEG_LS),
    f"{_JPEG}81": ("pyjpegls", JPEG_LS),
    f"{_JPEG}90": ("pylibjpeg", JPEG_2000),
    f"{_JPEG}91": ("pylibjpeg", JPEG_2000),
    f"{_JPEG}201": ("pylibjpeg", JPEG_2000),
    f"{_JPEG}202": ("pylibjpeg", JPEG_2000),
    f"{_JPEG}203": ("pylibjpeg", JPEG_2000),
}
_YBR = ("YBR_FULL", "YBR_FULL_422")
_PICTURES = ("Image Storage", "Enhanced US Volume Storage")  # in the names of classes
_LONGEST_REASON = 300
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
# Modalities that are no pictures, for files that do not name their class.
_NO_PICTURES = frozenset({"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "SR", "PR", "KO", "REG", "DOC"})


class DicomFile:
    """A DICOM file with pictures: its header, and its frames, decoded when they are asked for.

    Attributes:
        name: what sentences call it.
        header: what stands before its pixels.
        uid: its SOP instance UID, or the name of the file.
        frames: how many it has.
        grey: whether they are grey.
        size: their rows and columns.
    """

    def __init__(self, source: Path | BinaryIO, name: str, segmentation: bool) -> None:
        """Read and check a header; ``open_dicom`` is the way in."""
        self._source: Path | BinaryIO = source
        self._state: tuple[int, int] | None = None  # of a file whose bytes are not inflated
        if isinstance(source, Path):
            self._state = state_of(source.stat())
            self._source = held(source, self._state[0])
        self.name, self._segmentation = name, segmentation
        with self._open() as file:
            if (plain := inflated(file)) is not file:
                self._source, self._state = plain, None
            self._read(plain)

    @contextlib.contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        if isinstance(self._source, Path):
            with self._source.open("rb") as file:
                yield file
        else:
            yield self._source

    def _read(self, file: BinaryIO) -> None:
        """Read the header and find where the frames are."""
        # header
        size = file.seek(0, 2)
        file.seek(0)
        self.header = data = read_attributes(file)
        implicit, self._little_endian = map(bool, data.original_encoding)
        order: Order = "little" if self._little_endian else "big"
        if self._segmentation:
            _check_segmentation(data, self.name)
        else:
            _check_kind(data, self.name, has_pixels=file.tell() < size)
        self.uid = str(value_of(data, "SOPInstanceUID") or Path(self.name).name)
        self._syntax = _uid(value_of(data.file_meta, "TransferSyntaxUID") or "")
        compressed = _check_syntax(self._syntax)

        # pixels
        self._pixels = pixels = pixels_after(file, order)
        layout = Layout.of(data, self._little_endian, pixels.vr)
        self.grey = layout.photometric in GREY
        check_size(layout.rows, layout.columns, self.name)
        if layout.photometric in ("YBR_ICT", "YBR_RCT") and _kind(self._syntax) != JPEG_2000:
            raise Refused(f"its colours are {layout.photometric}, and its pixels no JPEG 2000")
        self.size = layout.rows, layout.columns
        self._layout = layout

        # frames
        self._spans: list[list[Span]] | None = None
        if compressed:
            if pixels.length != UNKNOWN:
                raise Refused("its pixels are compressed, and have a length as if they were not")
            self.frames = declared_frames(data) or 1
            extended = bytes(value_of(data, "ExtendedOffsetTable") or b"")
            self._spans = frame_spans(file, size, self.frames, extended)
        else:
            if pixels.length == UNKNOWN:
                raise Refused("its pixels are compressed, and it does not say how")
            self.frames = native_frames(data, layout, pixels.length)
            check_end(file, pixels.at + pixels.length, size, implicit, order)
        if 0 < (described := len(_groups(data, "PerFrame"))) < self.frames:
            raise Refused(f"it has {self.frames} frames, and describes {described} of them")

    def picture(self, number: int, window: Window | None = None) -> NDArray[np.uint8]:
        """Decode a frame by its number from 0 into a picture.

        Args:
            number: of the frame.
            window: in place of the file's own, in modality units.

        Returns:
            uint8 [H, W, C], C 1 or 3, RGB.

        Raises:
            FrameError: it cannot be decoded, or needs a window.
        """
        with _refusing(self.name, "its pixels are damaged"):
            data, pixels = self.header, self._stored(number)
            if self.grey:
                return grey(self._layout, self.attributes(number), pixels, window)
            if self._layout.photometric != "PALETTE COLOR":
                return colour(data, pixels)
            if "SegmentedRedPaletteColorLookupTableData" in data:
                shown: NDArray[np.uint16] = apply_color_lut(pixels, data)[..., :3].astype(np.uint16)
                depth = int(data.RedPaletteColorLookupTableDescriptor[2])
                return (shown >> (depth - 8)).astype(np.uint8)
            return palette(data, pixels, self._little_endian)

    def values(self, number: int) -> NDArray[Any]:
        """Decode a frame by its number from 0 into modality units, without any window.

        Returns:
            float32 [H, W], NaN where the frame is padded; or integers of up to 16 bits, where those
            that are stored are the values.

        Raises:
            FrameError: it cannot be decoded, or is no grey one.
        """
        with _refusing(self.name, "its pixels are damaged"):
            if not self.grey:
                raise Refused("it has colours, and no values")
            pixels = self._stored(number)
            return modality_values(self._layout, self.attributes(number), pixels)

    def stored(self) -> Stored | None:
        """Where the values of its only frame lie in the file; None where they become others."""
        layout = self._layout
        plain = self.frames == 1 and self._spans is None and self.grey
        if self._state is None or not (plain and layout.little_endian and layout.allocated == 16):
            return None
        with contextlib.suppress(FrameError):  # which is told where the values are read
            if are_stored(layout, self.attributes(0)):
                at, dtype = self._pixels.at, layout.dtype.str
                return Stored(at, self.size, dtype, *layout.value_range, self._state)
        return None

    def attributes(self, number: int) -> Dataset:
        """The attributes that hold for one frame: the header's, and those of its own.

        An enhanced file keeps them in functional groups (PS3.3 C.7.6.16).
        """
        data: Dataset = self.header
        groups = _groups(data, "Shared")[:1] + _groups(data, "PerFrame")[number : number + 1]
        if not groups:
            return data
        attributes = Dataset()
        attributes.update({element.tag: element for element in data.group_dataset(0x0028)})
        for group in groups:
            for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in group.get(macro) or []:
                    attributes.update(item)
        return attributes

    def orientations(self) -> list[NDArray[np.float64]]:
        """The directions of rows and columns in the patient, of the file or of each frame.

        Returns:
            float64 [2, 3] each, of length 1; as many as are given.

        Raises:
            FrameError: one is no pair of directions.
        """
        with _refusing(self.name, "its header is damaged"):
            data = self.header
            planes = [data]
            for group in (data, *_groups(data, "Shared"), *_groups(data, "PerFrame")):
                planes += group.get("PlaneOrientationSequence") or []
            given = [plane.get("ImageOrientationPatient") for plane in planes]
            return [_axes(cosines) for cosines in given if cosines]

    def _stored(self, number: int) -> NDArray[np.generic]:
        """The stored values of one frame, [H, W] or [H, W, 3]; YBR comes as RGB."""
        layout = self._layout
        with self._open() as file:
            if self._spans is None:
                pixels = native(file, self._pixels.at, number, layout)
            else:
                if number >= len(self._spans):
                    raise Refused("its data end before")
                spans = self._spans[number]
                packed = b"".join((file.seek(at), file.read(length))[1] for at, length in spans)
                if self._syntax != _RLE:
                    return self._decoded(packed)
                pixels = unpacked(packed, layout, decode_segment)
        if layout.photometric in _YBR:
            return np.asarray(convert_color_space(pixels, "YBR_FULL", "RGB"))
        return pixels

    def _decoded(self, codestream: bytes) -> NDArray[np.generic]:
        """The stored values of a codestream, by the decoder of its syntax and no other."""
        layout = self._layout
        plugin, kind = _DECODERS[self._syntax]
        declared = check_codestream(
            codestream, kind, layout.rows, layout.columns, layout.samples, layout.allocated
        )
        described: Any = {
            "number_of_frames": 1,
            "rows": layout.rows,
            "columns": layout.columns,
            "samples_per_pixel": layout.samples,
            "planar_configuration": layout.planar,
            "photometric_interpretation": layout.photometric,
            "bits_allocated": layout.allocated,
            "bits_stored": layout.stored,
            "pixel_representation": int(layout.signed),
            "pixel_keyword": "PixelData",
            "correct_unused_bits": False,
        }
        try:
            if kind == BASELINE:  # Pillow conceals lost data, and this decoder says so
                colours = "GRAY" if layout.samples == 1 else "RGB"
                decode_jpeg(codestream, colours, min_height=1, min_width=1, strict=True)
            pixels: NDArray[np.generic] = get_decoder(self._syntax).as_array(
                encapsulate([codestream]), index=0, decoding_plugin=plugin, **described
            )[0]
        except (RuntimeError, ValueError) as error:
            raise Refused(f"its pixels are damaged {kind}") from error
        if kind == JPEG_2000 and declared.bits > layout.stored:  # a lossy one may leave the range
            pixels = np.clip(pixels, *layout.value_range)
        return pixels


def open_dicom(source: Path | BinaryIO, name: str = "", segmentation: bool = False) -> DicomFile:
    """Read and check the header of a DICOM file.

    Args:
        source: the file, or one that is open, can be sought, and stays so.
        name: what sentences call it; its path if not given.
        segmentation: whether a segmentation is wanted, and pictures are not.

    Raises:
        FrameError: no DICOM file, damaged, or of a kind that cannot be decoded.
        NoPicture: it holds something else than what is wanted.
    """
    own = source if isinstance(source, Path) else getattr(source, "name", "")
    name = name or str(own) or "a file"
    with _refusing(name, "its header is damaged"):
        return DicomFile(source, name, segmentation)


@contextlib.contextmanager
def _refusing(name: str, damage: str) -> Iterator[None]:
    """Silence what pydicom warns of, and turn what is raised into a FrameError.

    Messages of pydicom and of decoders are for programmers, and stay the cause.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Refused as error:
            reason = printable(str(error))[:_LONGEST_REASON]  # it may quote the file
            raise FrameError(f"{name} cannot be decoded as DICOM: {reason}") from error
        except FrameError:
            raise
        except OSError as error:
            reason = (error.strerror or "it went away").lower()
            raise FrameError(f"{name} cannot be read: {reason}") from error
        except MemoryError as error:
            raise FrameError(f"{name} takes more memory than there is") from error
        except Exception as error:  # decoders raise many kinds on damaged data
            raise FrameError(f"{name} cannot be decoded as DICOM: {damage}") from error


def _check_kind(data: Dataset, name: str, has_pixels: bool) -> None:
    """Refuse what holds no picture by its SOP class, whatever else it holds.

    Private classes hold pictures if they have a size and pixels. What has no class at all is told
    by its modality. A picture that adae-edge made of a series is none to be scored: an archive may
    send it back.
    """
    uid = _class_of(data)
    kind = "" if uid.name == uid else uid.name
    if not kind and str(value_of(data, "Modality") or "") in _NO_PICTURES:
        kind = f"modality {data.Modality}"
    if kind and not any(name in kind for name in _PICTURES):
        raise NoPicture(f"{name} holds no picture: it is of the kind {kind}")
    if uid and not kind and not has_pixels and value_of(data, "Rows") is None:
        raise NoPicture(f"{name} holds no picture: it is of a private kind without pixels")
    if str(value_of(data, "ManufacturerModelName") or "") == "adae-edge":
        raise NoPicture(f"{name} is a result of adae-edge, and results are not scored")


def _class_of(data: Dataset) -> UID:
    """The SOP class of a file, "" where it names none."""
    meta = data.file_meta
    return _uid(value_of(data, "SOPClassUID") or value_of(meta, "MediaStorageSOPClassUID") or "")


def _check_segmentation(data: Dataset, name: str) -> None:
    """Refuse what is no segmentation by its SOP class."""
    if _class_of(data) not in _SEGMENTATIONS:
        raise NoPicture(f"{name} holds no segmentation")


def _check_syntax(syntax: UID) -> bool:
    """Whether pixels are compressed; refuses a transfer syntax that is not read."""
    if not syntax or syntax == _RLE or syntax in _DECODERS:
        return bool(syntax)
    if not syntax.is_transfer_syntax:
        raise Refused("its transfer syntax is none that is known")
    if syntax.is_encapsulated:
        raise Refused(f"its transfer syntax is {syntax.name}, which is not read")
    return False


def _kind(syntax: UID) -> str:
    """What a syntax's codestreams are; "" for those without."""
    return _DECODERS.get(syntax, ("", ""))[1]


def _axes(cosines: Sequence[float]) -> NDArray[np.float64]:
    """Six direction cosines (PS3.3 C.7.6.2.1.1) -> float64 [2, 3], of length 1."""
    axes = np.array([float(cosine) for cosine in cosines]).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if not (np.abs(lengths - 1) < 0.01).all():
        raise Refused("its orientation is no pair of directions")
    return np.asarray(axes / lengths)


def _groups(data: Dataset, kind: str) -> list[Dataset]:
    """The functional groups of an enhanced file, of all its frames or of each."""
    return list(value_of(data, f"{kind}FunctionalGroupsSequence") or [])
