"""Both implementations with the same parameters: passes of their networks, and drawing."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import torch
from ml_collections import ConfigDict

from benchmarks.pytorch import networks, tensors
from benchmarks.pytorch.checkouts import Code
from benchmarks.pytorch.loops import draw, schedule
from benchmarks.systems import PAPER, drawing
from wmgm_jax import runs, systems
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.core.random import fold_in, fold_in_each, normal
from wmgm_jax.diffusion.process import OUProcess
from wmgm_jax.networks import Discriminator
from wmgm_jax.runs import untrained
from wmgm_jax.systems.interface import Sampling

_STEPS = PAPER.num_steps


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The same work, ours and theirs.

    Attributes:
        what: the work.
        ours: does it once.
        theirs: do it once, by layout.
        difference: of the results, the largest over the largest of ours; None where they are not
            the same.
    """

    what: str
    ours: Callable[[], Any]
    theirs: Mapping[str, Callable[[], Any]]
    difference: float | None = None


class Both:
    """Both implementations, with the same parameters."""

    def __init__(self, config: ConfigDict, code: Code, batch_size: int, images: int):
        self.config, self.code, self.batch_size, self.images = config, code, batch_size, images
        self.channels, self.levels = config.data.channels, config.wavelet.levels
        self.system = systems.build(config)
        shape = (batch_size, *config.data.image_size, self.channels)
        self.pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        self.statistics = self.system.compute_statistics([IMAGES.to_unit_range(self.pixels)])
        self.process = OUProcess(config.process.schedule, config.process.T)

        score, _ = untrained.parameters(self.system.stages["score"])
        msal, statistics = untrained.parameters(self.system.stages["msal"])
        self.score, self.generator = score["score"], msal["generator"]
        self.discriminator = msal["discriminator"]
        # Theirs has one set of batch statistics, whatever the scale.
        self.batch_stats = statistics["scale_1"]
        self.theirs = {
            "score": networks.score_network(
                code.unet, config.score.network, self.channels, self.score
            ),
            "generator": networks.generator(
                code.gan, config.msal.generator, self.channels, self.generator, self.batch_stats
            ),
            "discriminator": networks.discriminator(
                code.gan, config.msal.paper.discriminator, self.channels, self.discriminator
            ),
        }

    def passes(self) -> Iterator[Comparison]:
        """A pass of every network by itself; sampling prepares them first, for all its passes."""
        score, *generators = self.system.network_calls(PAPER)
        level = np.linspace(10, 990, self.batch_size, dtype=np.float32)
        inputs = self.normal(self.levels, self.channels), level
        yield self.forward("score", score.apply, {"params": self.score}, inputs)
        for k, generator in zip(range(self.levels, 0, -1), generators, strict=True):
            variables = {"params": self.generator, "batch_stats": self.batch_stats}
            inputs = (self.normal(k, 2 * self.channels),)
            yield self.forward("generator", generator.apply, variables, inputs)
        discriminator = Discriminator(**self.config.msal.paper.discriminator)
        for k in range(self.levels - 1, -1, -1):
            inputs = (self.normal(k, self.channels),)
            variables = {"params": self.discriminator}
            yield self.forward("discriminator", discriminator.apply, variables, inputs)

    def normal(self, k: int, channels: int) -> np.ndarray:
        """Draws of the size of x_L^k."""
        height, width = self.config.data.image_size
        shape = (self.batch_size, height >> k, width >> k, channels)
        return np.random.default_rng(k).standard_normal(shape, np.float32)

    def forward(self, name: str, apply: Callable, variables: Any, inputs: tuple) -> Comparison:
        program = jax.jit(apply).lower(variables, *inputs).compile()
        ours = functools.partial(program, variables, *map(jax.device_put, inputs))
        theirs = {
            layout: tensors.inference(
                functools.partial(network, *(tensors.tensor(x, layout) for x in inputs))
            )
            for layout, network in self.copies(name).items()
        }
        size = "x".join(map(str, inputs[0].shape[1:3]))
        # Their discriminator normalises by batch.
        same = name != "discriminator"
        return Comparison(
            f"{name}, {self.batch_size} of {size}",
            ours,
            theirs,
            tensors.difference(ours(), theirs) if same else None,
        )

    def copies(self, name: str) -> dict[str, torch.nn.Module]:
        """A network of theirs in every layout, in inference."""
        return {
            layout: copy.deepcopy(self.theirs[name])
            .to(tensors.device(), memory_format=memory)
            .eval()
            for layout, memory in tensors.LAYOUTS.items()
        }

    def drawing(self, way: Sampling = PAPER) -> Comparison:
        """Ours in one way, theirs always in the paper's."""
        params = {
            "score": self.score,
            "generator": self.generator,
            "batch_stats": {f"scale_{k}": self.batch_stats for k in range(1, self.levels + 1)},
            "statistics": self.statistics,
        }
        ours = drawing(runs.Model(self.config, params, {}), self.images, way).call
        height, width = (side >> self.levels for side in self.config.data.image_size)
        shape = self.images, self.channels, height, width
        steps = schedule(self.process, _STEPS)
        noise = functools.partial(torch.randn, device=tensors.device())
        copies = {name: self.copies(name) for name in ("score", "generator")}

        def drawn(layout: str, noise: Callable) -> torch.Tensor:
            of_layout = {name: in_layouts[layout] for name, in_layouts in copies.items()}
            statistics = {name: tensors.per_channel(x) for name, x in self.statistics.items()}
            return draw(of_layout, steps, statistics, shape, noise)

        def same_noise(layout: str) -> Callable:
            draws = self.noise(jax.random.key(0))
            return tensors.inference(
                lambda: drawn(layout, lambda _: tensors.tensor(next(draws), layout))
            )

        return Comparison(
            f"drawing {self.images}, {way.num_steps} steps"
            + (f" for {_STEPS}" if way != PAPER else ""),
            ours,
            {
                layout: tensors.inference(functools.partial(drawn, layout, noise))
                for layout in tensors.LAYOUTS
            },
            tensors.difference(ours(), {layout: same_noise(layout) for layout in tensors.LAYOUTS})
            if way == PAPER
            else None,
        )

    def noise(self, key: jax.Array) -> Iterator[np.ndarray]:
        """What our program draws, in the order in which it is needed."""
        keys = fold_in_each(key, np.arange(self.images))
        low_keys, detail_keys = fold_in(keys, 0), fold_in(keys, 1)
        for index in (_STEPS + 1, *range(_STEPS - 1)):
            yield self.drawn(fold_in(low_keys, index), self.levels)
        for k in range(self.levels, 0, -1):
            yield self.drawn(fold_in(detail_keys, k), k)

    def drawn(self, keys: jax.Array, k: int) -> np.ndarray:
        height, width = self.config.data.image_size
        return np.asarray(normal(keys, (len(keys), height >> k, width >> k, self.channels)))
