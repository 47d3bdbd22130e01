"""Slots: a memory that is filled with what is normal, and kept in use while the network learns.

In: the network in training and its fit windows. Out: other values in some of its slots.
Never: touches a weight that is not the memory's.

At the start every slot is the code of a normal moment. Every 10 epochs the least used tenth of
the slots gets new ones: a slot that nothing reads learns nothing either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EVERY_EPOCHS = 10
RENEWED_SHARE = 0.1
# Enough to tell which slots are read.
WATCHED_WINDOWS = 512
BATCH = 64


def slots_callback(keras: Any, model: Any, fit: NDArray[np.float32], seed: int) -> Any:
    """The callback for `model.fit`."""
    random = np.random.default_rng(seed)
    windows = fit[np.sort(random.permutation(len(fit))[:WATCHED_WINDOWS])]
    layer = model.get_layer("memory")
    encoder = keras.Model(model.inputs, model.get_layer("latent").output)

    def codes() -> NDArray[np.float32]:
        batches = (windows[i : i + BATCH] for i in range(0, len(windows), BATCH))
        return np.concatenate([encoder(batch, training=False).numpy() for batch in batches])

    class Slots(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_train_begin(self, logs: Any = None) -> None:
            memory = layer.memory.numpy()
            layer.memory.assign(_chosen(random, codes(), len(memory)))

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            # At the beginning, so that what was renewed is trained before it is judged.
            if epoch and epoch % EVERY_EPOCHS == 0:
                latent, memory = codes(), layer.memory.numpy()
                used = np.asarray(layer.shares(latent)).sum(axis=0)
                renewed = np.argsort(used)[: max(1, round(RENEWED_SHARE * len(memory)))]
                memory[renewed] = _chosen(random, latent, len(renewed))
                layer.memory.assign(memory)

    return Slots()


def _chosen(
    random: np.random.Generator, codes: NDArray[np.float32], count: int
) -> NDArray[np.float32]:
    """The codes of some moments of some windows."""
    flat = codes.reshape(-1, codes.shape[-1])
    return flat[random.choice(len(flat), count, replace=len(flat) < count)]
