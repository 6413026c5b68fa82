"""DICOM files of a synthetic radiograph, in every form a clinic may send."""

import io
import struct
import warnings
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1

PATIENT = "DOE^SECRET"  # must never be seen in a message


def dicom_dataset(pixels: np.ndarray, bits: int | None = None, **tags: Any) -> FileDataset:
    """An uncompressed chest radiograph; `tags` replace, add or (None) remove header fields."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.Modality = PATIENT, PATIENT, "CR"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.add_new("PixelData", "OW", pixels.tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these headers are wrong on purpose
        for name, value in tags.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
    return dataset


def dicom_bytes(dataset: FileDataset) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def with_value(dataset: FileDataset, name: str, vr: str, value: bytes) -> bytes:
    """The file with one element of any kind and value, right or wrong."""
    element = struct.pack("<HH", tag_for_keyword(name) >> 16, tag_for_keyword(name) & 0xFFFF) + vr.encode()
    element += struct.pack("<HI", 0, len(value)) if vr in ("OB", "OW", "UN", "SQ") else struct.pack("<H", len(value))
    if name in dataset and name != "PixelData":
        delattr(dataset, name)
    data = dicom_bytes(dataset)
    pixels = data.index(b"\xe0\x7f\x10\0O")  # pydicom wants no order of the elements before them
    return data[:pixels] + element + value + (b"" if name == "PixelData" else data[pixels:])


def with_stream(dataset: FileDataset, stream: bytes, syntax: str) -> FileDataset:
    """The same header with compressed pixels."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.add_new("PixelData", "OB", encapsulate([stream]))
    dataset["PixelData"].is_undefined_length = True
    return dataset


def jpeg_baseline(pixels: np.ndarray) -> FileDataset:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return with_stream(dicom_dataset(pixels), buffer.getvalue(), JPEGBaseline8Bit)


def jpeg_lossless(pixels: np.ndarray, bits: int) -> FileDataset:
    """JPEG process 14, first-order prediction, from scratch: no encoder of it is installed."""
    rows, columns = pixels.shape
    values = pixels.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    code = []
    for difference in (values - predicted).ravel().tolist():
        size = abs(difference).bit_length()
        extra = difference if difference > 0 else difference + (1 << size) - 1
        code.append(f"{size:05b}" + (f"{extra:0{size}b}" if size else ""))  # every category has a code of five bits
    joined = "".join(code)
    joined += "1" * (-len(joined) % 8)
    scan = int(joined, 2).to_bytes(len(joined) // 8, "big").replace(b"\xff", b"\xff\x00")
    stream = b"\xff\xd8"
    stream += b"\xff\xc3" + struct.pack(">HBHHBBBB", 11, bits, rows, columns, 1, 1, 0x11, 0)
    counts = [0, 0, 0, 0, 17] + [0] * 11
    stream += b"\xff\xc4" + struct.pack(">HB", 2 + 1 + 16 + 17, 0) + bytes(counts) + bytes(range(17))
    stream += b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 0, 0) + scan + b"\xff\xd9"
    return with_stream(dicom_dataset(pixels, bits), stream, JPEGLosslessSV1)
