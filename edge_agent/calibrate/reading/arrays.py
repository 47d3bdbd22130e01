"""Arrays: NPZ and NPY to columns.

In: the bytes of a file. Out: `Columns`. Never: unpickles, unpacks more than the limit.

Known names: `mag_t_xyz` and `acc_t_xyz` (time in seconds first), `mag` and `acc` [n, 3], `x` `y`
`z`. A single array of three or four columns needs no name.
"""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np

from edge_agent.calibrate.reading.readings import LIMIT_BYTES, Columns, ReadingsError, at_moments
from edge_agent.calibrate.sphere import Floats

ZIP, NPY = b"PK\x03\x04", b"\x93NUMPY"
EXPECTED = "expected arrays mag_t_xyz (and acc_t_xyz), mag (and acc), or x, y and z"


def is_arrays(content: bytes) -> bool:
    """Whether a file begins like one of NumPy's."""
    return content.startswith((ZIP, NPY))


def read_arrays(content: bytes) -> Columns:
    """Field and, if there is one, acceleration at the same moments. Raises `ReadingsError`."""
    try:
        arrays = _load(content)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error,
            NotImplementedError, SyntaxError, MemoryError) as error:  # fmt: skip
        raise ReadingsError(f"not a readable NPZ or NPY file ({error})") from None
    field, moments = _sensor(arrays, ("mag", "m", "magnetometer", "compass", "field"))
    acceleration, acc_moments = _sensor(arrays, ("acc", "a", "accel", "accelerometer"))
    if field is None and acceleration is not None:
        return Columns(acceleration, None, acc_moments, gravity_only=True)
    if field is None:
        field, moments = _plain(arrays)
    if field is None:
        raise ReadingsError(f"arrays {', '.join(sorted(arrays)) or 'none'}; {EXPECTED}")
    if acceleration is None:
        return Columns(field, None, moments)
    return _together(field, moments, acceleration, acc_moments)


def _load(content: bytes) -> dict[str, Floats]:
    if content.startswith(NPY):
        return _floats({"array": np.load(io.BytesIO(content), allow_pickle=False)})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LIMIT_BYTES:
            raise ReadingsError(f"unpacks to more than {LIMIT_BYTES >> 20} MiB")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return _floats({name: file[name] for name in file.files})


def _floats(arrays: dict[str, object]) -> dict[str, Floats]:
    """Real numbers only; a member that is no array is bytes."""
    return {
        name: np.asarray(array, dtype=np.float64)
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and array.dtype.kind in "fiu" and array.ndim
    }


def _sensor(
    arrays: dict[str, Floats], prefixes: tuple[str, ...]
) -> tuple[Floats | None, Floats | None]:
    """Rows and seconds (None if there are none) of the first array of such a name."""
    for name, array in arrays.items():
        first = name.lower().split("_")[0]
        if first not in prefixes or array.ndim != 2 or len(array) == 0:
            continue
        if array.shape[1] == 3:
            return array, None
        if array.shape[1] == 4:
            return array[:, 1:], array[:, 0]
    return None, None


def _plain(arrays: dict[str, Floats]) -> tuple[Floats | None, Floats | None]:
    lower = {name.lower(): array for name, array in arrays.items()}
    axes = [lower.get(name) for name in "xyz"]
    found = [axis for axis in axes if axis is not None and axis.ndim == 1 and len(axis)]
    if len(found) == 3 and len({len(axis) for axis in found}) == 1:
        time = next((lower[name] for name in ("t", "time", "seconds") if name in lower), None)
        fits = time is not None and time.shape == found[0].shape
        return np.column_stack(found), time if fits else None
    if len(arrays) == 1:
        (array,) = arrays.values()
        return _sensor({"mag": array.T if _lies(array) else array}, ("mag",))
    return None, None


def _lies(array: Floats) -> bool:
    """Whether the axes are rows instead of columns."""
    return array.ndim == 2 and array.shape[0] in (3, 4) and array.shape[1] not in (3, 4)


def _together(
    field: Floats, moments: Floats | None, acceleration: Floats, acc_moments: Floats | None
) -> Columns:
    if moments is not None and acc_moments is not None:
        orderly = np.isfinite(acc_moments).all() and (np.diff(acc_moments) >= 0).all()
        if orderly:
            return Columns(field, at_moments(moments, acc_moments, acceleration), moments)
        note = "the accelerometer's times do not rise: it was left out"
        return Columns(field, None, moments, notes=(note,))
    if len(field) == len(acceleration):
        return Columns(field, acceleration, moments)
    note = f"{len(acceleration)} accelerations for {len(field)} fields and no times: left out"
    return Columns(field, None, moments, notes=(note,))
