"""How the network learns, without labels, from the training images alone."""

import logging
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from wmgm_jax import data
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.evaluation.learned import damage
from wmgm_jax.evaluation.learned.network import Heads
from wmgm_jax.networks.apply import apply_fn

_log = logging.getLogger(__name__)

BATCH_SIZE = 32  # images, each in two views
LEARNING_RATE = 2e-3
_TEMPERATURE = 0.2
_SEED = 0


def train(source: data.Source, num_steps: int, augment: str) -> Any:
    """Trains the network on all images of a source.

    Args:
        source: uint8 images.
        num_steps: the length of the training.
        augment: how the images may be turned without damage; see `damage.turns`.

    Returns:
        The parameters of `Backbone`, float32.
    """
    model = Heads(sizes(source.image_shape, augment))
    key = jax.random.key(_SEED)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(
            optax.warmup_cosine_decay_schedule(
                0.0, LEARNING_RATE, max(1, num_steps // 20), max(2, num_steps)
            )
        ),
    )
    images = jnp.zeros((1, *source.image_shape), jnp.float32)
    params = jax.jit(model.init)(key, images)["params"]
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, images, step_key):
        values, gradients = jax.value_and_grad(loss, has_aux=True)(
            params, model, images, step_key, augment
        )
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, values[1]

    start, parts = time.monotonic(), {}
    for i in tqdm(range(num_steps), "features", unit="step", disable=not sys.stderr.isatty()):
        batch = _batch(source, i)
        params, state, parts = step(params, state, batch, jax.random.fold_in(key, i))
    _log.info(
        "trained the feature network on %d images in %.0f s: %s",
        len(source),
        time.monotonic() - start,
        ", ".join(f"{name} {value:.3g}" for name, value in sorted(parts.items())),
    )
    return jax.device_get(params["backbone"])


def sizes(shape: tuple[int, int, int], augment: str) -> dict[str, int]:
    """The number of outputs of each linear head of `Heads`."""
    return {
        "turn": len(damage.turns(shape, augment)),
        "quarters": len(damage.QUARTERS),
        "is_pasted": 1,
        "strengths": len(damage.STRENGTHS),
    }


def loss(
    params: Any, model: Heads, images: jax.Array, key: jax.Array, augment: str
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a batch, and its parts, each in about the unit of a guess.

    A network that knows nothing but how often each label comes has 1 for `pasted` and
    `contrastive`, 0.96 for `quarters`, 1.1 for `strengths`, and for `turn` 0.67 with four classes
    and 0.96 with eight.

    Args:
        params: of `model`.
        model: what predicts the damage.
        images: uint8 `[B, H, W, C]`. Each is damaged twice, differently.
        key: of the damage.
        augment: see `damage.turns`.
    """
    views, labels = jax.vmap(lambda k: damage.damage(k, images, augment))(jax.random.split(key))
    views, labels = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (views, labels))
    outputs = apply_fn(model)({"params": params}, IMAGES.to_unit_range(views))
    is_pasted = labels["mask"].max(axis=(1, 2))
    grid = outputs["mask"].shape[1:]
    share = jax.image.resize(labels["mask"], (len(views), *grid), "linear")
    parts = {
        "quarters": _cross_entropy(outputs["quarters"], labels["quarters"]) / 2.28,
        "pasted": _binary(outputs["is_pasted"][:, 0], is_pasted),
        "mask": _binary(outputs["mask"], share),
        "strengths": jnp.mean((outputs["strengths"] - labels["strengths"]) ** 2) / 0.08,
        "contrastive": contrastive_loss(outputs["embedding"], _TEMPERATURE),
    }
    if outputs["turn"].shape[1] > 1:
        parts["turn"] = _cross_entropy(outputs["turn"], labels["turn"]) / 1.6
    return jnp.sum(jnp.stack(list(parts.values()))), parts


def contrastive_loss(embeddings: jax.Array, temperature: float) -> jax.Array:
    """How well each view finds the other view of its image; van den Oord et al. 2018, Eq. 4.

    https://arxiv.org/abs/1807.03748, in the symmetric form of SimCLR, Chen et al. 2020, Eq. 1,
    https://arxiv.org/abs/2002.05709, divided by the loss of a guess, log(2B - 1).

    Args:
        embeddings: unit vectors `[2 B, D]`; i and i + B are views of one image.
        temperature: of the softmax over cosines.
    """
    count = len(embeddings)
    logits = embeddings @ embeddings.T / temperature
    logits = jnp.where(jnp.eye(count, dtype=bool), -jnp.inf, logits)
    others = jnp.roll(jnp.arange(count), count // 2)
    return _cross_entropy(logits, others) / np.log(count - 1)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _binary(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean() / np.log(2)


def _batch(source: data.Source, step: int) -> np.ndarray:
    """Images of one batch. A set that is smaller than a batch is repeated."""
    if len(source) < BATCH_SIZE:
        return source.take(np.arange(BATCH_SIZE) % len(source))
    return data.batch_at(source, seed=_SEED, step=step, batch_size=BATCH_SIZE, augment="none")
