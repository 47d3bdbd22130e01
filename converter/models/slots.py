"""Slots: a memory that is filled with what is normal, and kept in use while the network learns.

In: the network in training and its fit windows. Out: other values in some of its slots.
Never: touches a weight that is not the memory's.

At the start every slot is the code of a normal moment. Every 10 epochs the least used tenth of
the slots gets new ones: a slot that nothing reads learns nothing either. Which codes and which
slots is chosen by the gateway's own code, which can do the same on site.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.slots import chosen, least_used

EVERY_EPOCHS = 10
# Enough to tell which slots are read; of a large memory as many as give two codes a slot.
WATCHED_WINDOWS = 512
CODES_A_SLOT = 2
BATCH = 64
CODES_AT_ONCE = 1024


def slots_callback(keras: Any, model: Any, fit: NDArray[np.float32], seed: int) -> Any:
    """The callback for `model.fit`."""
    random = np.random.default_rng(seed)
    layer = model.get_layer("memory")
    watched = max(WATCHED_WINDOWS, CODES_A_SLOT * layer.memory.shape[0] // fit.shape[1])
    windows = fit[np.sort(random.permutation(len(fit))[:watched])]
    encoder = keras.Model(model.inputs, model.get_layer("latent").output)

    def codes() -> NDArray[np.float32]:
        batches = (windows[i : i + BATCH] for i in range(0, len(windows), BATCH))
        found = np.concatenate([encoder(batch, training=False).numpy() for batch in batches])
        return found.reshape(-1, found.shape[-1])

    def used(latent: NDArray[np.float32]) -> NDArray[np.float64]:
        batches = (latent[i : i + CODES_AT_ONCE] for i in range(0, len(latent), CODES_AT_ONCE))
        parts = [np.asarray(layer.shares(batch)).sum(axis=0) for batch in batches]
        total: NDArray[np.float64] = np.sum(parts, axis=0, dtype=np.float64)
        return total

    class Slots(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_train_begin(self, logs: Any = None) -> None:
            memory = layer.memory.numpy()
            layer.memory.assign(chosen(random, codes(), len(memory)))

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            # At the beginning, so that what was renewed is trained before it is judged.
            if epoch and epoch % EVERY_EPOCHS == 0:
                latent, memory = codes(), layer.memory.numpy()
                renewed = least_used(used(latent))
                memory[renewed] = chosen(random, latent, len(renewed))
                layer.memory.assign(memory)

    return Slots()
