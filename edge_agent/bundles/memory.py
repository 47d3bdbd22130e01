"""Memory: the read of a memory autoencoder, in float, behind its int8 encoder.

In: the encoder as a callable, the memory, the decoder's weights. Out: a callable,
float32[steps, features] to the same shape. Never: knows LiteRT, trusts a size it has not checked.

Each step's code is compared with every slot (cosine), the slots are mixed by a softmax of that,
and two small dense layers make features of the mixture. In int8 the softmax would have steps of
1/256, and the ranking of the scores would be lost; in float it costs a tenth of a millisecond. Of a
large memory only the nearest slots are read, by definition: how they are found is not its matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import DECODER_NAME, MEMORY_NAME, SCALE_NAME, MemorySpec

Features: TypeAlias = NDArray[np.float32]
Encoder: TypeAlias = Callable[[Features], Sequence[Features]]

Cosines: TypeAlias = NDArray[np.float32]
Places: TypeAlias = NDArray[np.intp]
# Unit codes float32[n, dim] to the nearest slots of each: cosines and places, both [n, count].
Find: TypeAlias = Callable[[Features], tuple[Cosines, Places]]
MakeFind: TypeAlias = Callable[[Features, int], Find]

# Bounds what a look at many codes takes: 256 codes beside 10,000 slots are 10 MB.
CODES_AT_ONCE = 256
TINY = np.float32(1e-12)
# Version 1.0 of the .npy format: magic, version, length of the header, header, numbers.
MAGIC = b"\x93NUMPY\x01\x00"
LENGTH = slice(8, 10)


def exact_nearest(keys: Features, count: int) -> Find:
    """Finds the `count` slots with the largest cosine by comparing with all `keys`
    float32[slots, dim], which are unit vectors."""
    turned, at = np.ascontiguousarray(keys.T), len(keys) - count

    def find(codes: Features) -> tuple[Cosines, Places]:
        cosines = codes @ turned
        places = np.argpartition(cosines, at, axis=1)[:, at:]
        return np.take_along_axis(cosines, places, axis=1), places

    return find


class Decoder(NamedTuple):
    """Two dense layers: kernel [dim, hidden], bias, kernel [hidden, features], bias."""

    first: Features
    first_bias: Features
    second: Features
    second_bias: Features


def split_decoder(spec: MemorySpec, features: int, flat: NDArray[np.float32]) -> Decoder:
    """The decoder's parts, which lie one behind the other."""
    hidden = spec.hidden
    ends = np.cumsum([spec.dim * hidden, hidden, hidden * features])
    first, first_bias, second, second_bias = np.split(flat, ends)
    return Decoder(
        first.reshape(spec.dim, hidden), first_bias, second.reshape(hidden, features), second_bias
    )


class Memory:
    """Slots and decoder of one bundle. `decoder` is flat. Where only the nearest slots are read,
    `nearest` makes what finds them."""

    def __init__(
        self,
        spec: MemorySpec,
        features: int,
        slots: Features,
        decoder: NDArray[np.float32],
        nearest: MakeFind = exact_nearest,
    ) -> None:
        parts = split_decoder(spec, features, decoder)
        self._temperature = np.float32(spec.temperature)
        self._slots = len(slots)
        self._find = nearest(unit(slots), spec.nearest) if spec.nearest else None
        if self._find is None:
            self._keys = np.ascontiguousarray(unit(slots).T) / self._temperature
        # The mixture is linear, and so is the first layer: both at once.
        self._values = slots @ parts.first
        self._bias = parts.first_bias
        self._second, self._second_bias = parts.second, parts.second_bias
        self._shrinkage = np.float32(spec.shrinkage)

    def __call__(self, latent: Features) -> Features:
        """Codes float32[steps, dim] to the reconstruction float32[steps, features]."""
        shares, places = self._read(latent)
        if places is None:
            mixed = shares @ self._values
        else:
            mixed = np.einsum("sk,skh->sh", shares, self._values[places])
        hidden = np.maximum(mixed + self._bias, np.float32(0.0))
        reconstruction: Features = hidden @ self._second + self._second_bias
        return reconstruction

    def used(self, codes: Features) -> NDArray[np.float64]:
        """How much each slot is read for codes float32[n, dim]: the sum of its shares."""
        used = np.zeros(self._slots)
        for first in range(0, len(codes), CODES_AT_ONCE):
            shares, places = self._read(codes[first : first + CODES_AT_ONCE])
            if places is None:
                used += shares.sum(axis=0)
            else:
                used += np.bincount(places.ravel(), shares.ravel(), self._slots)
        return used

    def _read(self, latent: Features) -> tuple[Features, Places | None]:
        """Shares of the slots at these places of each code; None: of all, in order."""
        places: Places | None = None
        if self._find is None:
            logits = unit(latent) @ self._keys
        else:
            cosines, places = self._find(unit(latent))
            logits = cosines / self._temperature
        return shares_of(logits, self._shrinkage), places


class MemoryModel:
    """An encoder and the memory behind it. An encoder of two outputs is forward and backward in
    time; the backward one has its last step first."""

    def __init__(self, encoder: Encoder, memory: Memory) -> None:
        self._encoder, self.memory = encoder, memory

    def __call__(self, scaled: Features) -> Features:
        """The reconstruction of one scaled window."""
        return self.memory(self.codes(scaled))

    def codes(self, scaled: Features) -> Features:
        """What the memory is asked for: one code a step, float32[steps, dim]."""
        codes = self._encoder(scaled)
        return codes[0] if len(codes) == 1 else np.concatenate([codes[0], codes[1][::-1]], axis=1)


def read_memory(
    spec: MemorySpec,
    features: int,
    files: Mapping[str, bytes],
    nearest: MakeFind = exact_nearest,
) -> Memory:
    """The memory of a bundle. Raises `ValueError` for a member that is not what the spec says."""
    decoder = read_array(files, DECODER_NAME, np.dtype(np.float32), (spec.decoder_size(features),))
    return Memory(spec, features, read_slots(spec, files), decoder, nearest)


def read_decoder(spec: MemorySpec, features: int, files: Mapping[str, bytes]) -> Decoder:
    """The decoder alone. Raises `ValueError` as `read_memory` does."""
    size = (spec.decoder_size(features),)
    flat = read_array(files, DECODER_NAME, np.dtype(np.float32), size)
    return split_decoder(spec, features, flat)


def read_slots(spec: MemorySpec, files: Mapping[str, bytes]) -> Features:
    """The slots alone, float32[slots, dim]."""
    levels = read_array(files, MEMORY_NAME, np.dtype(np.int8), (spec.slots, spec.dim))
    scale = read_array(files, SCALE_NAME, np.dtype(np.float32), (spec.slots,))
    slots: Features = levels.astype(np.float32) * scale[:, None]
    return slots


def read_array(
    files: Mapping[str, bytes], name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """One `.npy` member of known type and size. Raises `ValueError` for any other."""
    header = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = files.get(name, b"")
    length = int.from_bytes(content[LENGTH], "little")
    # NumPy's own reader would evaluate a header that somebody else has written.
    found = content[LENGTH.stop : LENGTH.stop + length].strip()
    if not content.startswith(MAGIC) or found != header:
        raise ValueError(f"{name} is no array of {dtype} {list(shape)}")
    data = content[LENGTH.stop + length :]
    if len(data) != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{name} has {len(data)} bytes of numbers, too few or too many")
    values = np.frombuffer(data, dtype).reshape(shape)
    if not np.isfinite(values.astype(np.float32)).all():
        raise ValueError(f"{name} holds a number that is not finite")
    return values


def unit(rows: Features) -> Features:
    """Rows of length 1, as the network was trained with."""
    square = np.einsum("sd,sd->s", rows, rows)
    units: Features = rows / np.sqrt(np.maximum(square, TINY))[:, None]
    return units


def shares_of(logits: Features, shrinkage: np.float32) -> Features:
    """Softmax of each row; shares under `shrinkage` are 0, the rest sums to 1 again."""
    shares: Features = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return _shrink(shares, shrinkage) if shrinkage else shares


def _shrink(shares: Features, least: np.float32) -> Features:
    """Shares under `least` become 0, the rest sum to 1 again."""
    over = shares - least
    kept = np.maximum(over, np.float32(0.0)) * shares / (np.abs(over) + TINY)
    shrunk: Features = kept / (kept.sum(axis=1, keepdims=True) + TINY)
    return shrunk
