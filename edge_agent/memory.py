"""Memory: the read of a memory autoencoder, in float, behind its int8 encoder.

In: the encoder as a callable, the memory, the decoder's weights. Out: a callable,
float32[steps, features] to the same shape. Never: knows LiteRT, trusts a size it has not checked.

Each step's code is compared with every slot (cosine), the slots are mixed by a softmax of that,
and two small dense layers make features of the mixture. In int8 the softmax would have steps of
1/256, and the ranking of the scores would be lost; in float it costs a tenth of a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.manifest import DECODER_NAME, MEMORY_NAME, SCALE_NAME, MemorySpec

Features: TypeAlias = NDArray[np.float32]
Encoder: TypeAlias = Callable[[Features], Sequence[Features]]

TINY = np.float32(1e-12)
# Version 1.0 of the .npy format: magic, version, length of the header, header, numbers.
MAGIC = b"\x93NUMPY\x01\x00"
LENGTH = slice(8, 10)


class Memory:
    """Slots and decoder of one bundle. `decoder` is flat: kernel [dim, hidden], bias, kernel
    [hidden, features], bias."""

    def __init__(
        self, spec: MemorySpec, features: int, slots: Features, decoder: NDArray[np.float32]
    ) -> None:
        hidden = spec.hidden
        ends = np.cumsum([spec.dim * hidden, hidden, hidden * features])
        first, first_bias, second, second_bias = np.split(decoder, ends)
        self._keys = np.ascontiguousarray(_unit(slots).T) / np.float32(spec.temperature)
        # The mixture is linear, and so is the first layer: both at once.
        self._values = slots @ first.reshape(spec.dim, hidden)
        self._bias = first_bias
        self._second, self._second_bias = second.reshape(hidden, features), second_bias
        self._shrinkage = np.float32(spec.shrinkage)

    def __call__(self, latent: Features) -> Features:
        """Codes float32[steps, dim] to the reconstruction float32[steps, features]."""
        logits = _unit(latent) @ self._keys
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        if self._shrinkage:
            shares = _shrink(shares, self._shrinkage)
        hidden = np.maximum(shares @ self._values + self._bias, np.float32(0.0))
        reconstruction: Features = hidden @ self._second + self._second_bias
        return reconstruction


class MemoryModel:
    """An encoder and the memory behind it. An encoder of two outputs is forward and backward in
    time; the backward one has its last step first."""

    def __init__(self, encoder: Encoder, memory: Memory) -> None:
        self._encoder, self._memory = encoder, memory

    def __call__(self, scaled: Features) -> Features:
        """The reconstruction of one scaled window."""
        codes = self._encoder(scaled)
        if len(codes) == 1:
            return self._memory(codes[0])
        return self._memory(np.concatenate([codes[0], codes[1][::-1]], axis=1))


def read_memory(spec: MemorySpec, features: int, files: Mapping[str, bytes]) -> Memory:
    """The memory of a bundle. Raises `ValueError` for a member that is not what the spec says."""
    levels = read_array(files, MEMORY_NAME, np.dtype(np.int8), (spec.slots, spec.dim))
    scale = read_array(files, SCALE_NAME, np.dtype(np.float32), (spec.slots,))
    decoder = read_array(files, DECODER_NAME, np.dtype(np.float32), (spec.decoder_size(features),))
    slots = levels.astype(np.float32) * scale[:, None]
    return Memory(spec, features, slots, decoder)


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


def _unit(rows: Features) -> Features:
    """Rows of length 1, as the network was trained with."""
    square = np.einsum("sd,sd->s", rows, rows)
    units: Features = rows / np.sqrt(np.maximum(square, TINY))[:, None]
    return units


def _shrink(shares: Features, least: np.float32) -> Features:
    """Shares under `least` become 0, the rest sum to 1 again."""
    over = shares - least
    kept = np.maximum(over, np.float32(0.0)) * shares / (np.abs(over) + TINY)
    shrunk: Features = kept / (kept.sum(axis=1, keepdims=True) + TINY)
    return shrunk
