"""The authors' PyTorch networks, with our parameters in them."""

from collections.abc import Iterable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import numpy as np
import torch
from ml_collections import ConfigDict


def score_network(
    unet: ModuleType, settings: ConfigDict, channels: int, params: Any
) -> torch.nn.Module:
    """Improved diffusion's U-Net with the parameters of our score network.

    Args:
        unet: the module `improved_diffusion.unet`.
        settings: `score.network` of the config.
        channels: C of the images.
        params: of our network.
    """
    network = unet.UNetModel(
        in_channels=channels,
        model_channels=settings.channels,
        out_channels=channels,
        num_res_blocks=settings.num_blocks,
        attention_resolutions=tuple(2**level for level in settings.attention_levels),
        dropout=settings.dropout,
        channel_mult=tuple(settings.multipliers),
        num_heads=settings.num_heads,
        use_scale_shift_norm=True,
    )
    pairs = _Pairs()
    pairs.add(network.time_embed[0], params["Dense_0"])
    pairs.add(network.time_embed[2], params["Dense_1"])
    blocks, attentions, convolutions = (
        iter([params[f"{name}_{i}"] for i in range(len(params)) if f"{name}_{i}" in params])
        for name in ("ResidualBlock", "SelfAttention", "Conv")
    )
    for part in (*network.input_blocks, network.middle_block, *network.output_blocks):
        for layer in part:
            if isinstance(layer, unet.ResBlock):
                block = next(blocks)
                pairs.add(layer.in_layers[0], block["GroupNorm_0"])
                pairs.add(layer.in_layers[2], block["Conv_0"])
                pairs.add(layer.emb_layers[1], block["Dense_0"])
                pairs.add(layer.out_layers[0], block["GroupNorm_1"])
                pairs.add(layer.out_layers[3], block["Conv_1"])
                if "Conv_2" in block:
                    pairs.add(layer.skip_connection, block["Conv_2"])
            elif isinstance(layer, unet.AttentionBlock):
                attention = next(attentions)
                pairs.add(layer.norm, attention["GroupNorm_0"])
                pairs.add(layer.qkv, _heads_first(attention["Dense_0"], settings.num_heads))
                pairs.add(layer.proj_out, attention["Dense_1"])
            elif isinstance(layer, unet.Downsample):
                pairs.add(layer.op, next(convolutions))
            elif isinstance(layer, unet.Upsample):
                pairs.add(layer.conv, next(convolutions))
            else:
                pairs.add(layer, next(convolutions))
    pairs.add(network.out[0], params["GroupNorm_0"])
    pairs.add(network.out[2], next(convolutions))
    return pairs.fill(network)


def generator(
    gan: ModuleType, settings: ConfigDict, channels: int, params: Any, statistics: Any
) -> torch.nn.Module:
    """The authors' generator with our parameters, without the tanh at its end, which ours lacks.

    Args:
        gan: the module `Attention_GAN`.
        settings: `msal.generator` of the config; depth 5, for theirs has no other.
        channels: C of the images.
        params: of our generator.
        statistics: of its batch norms, at one scale.
    """
    network = gan.Generator(
        SimpleNamespace(n_channels=settings.channels), 2 * channels, 3 * channels
    )
    network.last_activation = torch.nn.Identity()
    pairs = _Pairs()
    down = [getattr(network, f"Conv{i}") for i in range(1, 6)]
    up = [getattr(network, f"Up{i}").conv_block for i in range(5, 1, -1)]
    for i, block in enumerate([*down, *up, network.last_conv1]):
        ours, theirs = f"ConvBlock_{i}", list(block.block)
        pairs.add(block.shortcut, params[ours]["Conv_0"])
        for name, layers in (("NormalisedConv_0", theirs[:2]), ("NormalisedConv_1", theirs[3:])):
            pairs.add_normalised(layers, params[ours][name], statistics[ours][name])
    for i in range(4):
        ours, gate = f"AttentionGate_{i}", getattr(network, f"Att{5 - i}")
        for name in ("W_g", "W_x", "psi"):
            layers = list(getattr(gate, name))[:2]
            pairs.add_normalised(layers, params[ours][name], statistics[ours][name])
    pairs.add(network.last_conv2, params["Conv_0"])
    return pairs.fill(network)


def discriminator(
    gan: ModuleType, settings: ConfigDict, channels: int, params: Any
) -> torch.nn.Module:
    """The authors' discriminator with our parameters.

    It normalises by batch and ours by group, so that the two differ even so.

    Args:
        gan: the module `Attention_GAN`.
        settings: `msal.paper.discriminator` of the config.
        channels: C of the images.
        params: of our discriminator.
    """
    sizes = SimpleNamespace(n_channels=settings.channels, n_blocks=settings.num_blocks)
    network = gan.Discriminator(sizes, channels)
    pairs = _Pairs()
    pairs.add(network.initial_block[0], params["Conv_0"])
    pairs.add(network.initial_block[1], params["Norm_0"]["GroupNorm_0"])
    for i, block in enumerate(network.conv_path):
        ours = params[f"DownBlock_{i}"]
        for j, layer in enumerate([block.shortcut[0], block.block[0], block.block[3]]):
            pairs.add(layer, ours[f"Conv_{j}"])
        for j, layer in enumerate([block.shortcut[1], block.block[1], block.block[4]]):
            pairs.add(layer, ours[f"Norm_{j}"]["GroupNorm_0"])
    pairs.add(network.fc[0], params["Dense_0"])
    pairs.add(network.fc[3], params["Dense_1"])
    return pairs.fill(network)


class _Pairs:
    """Tensors of a network of theirs, each with the array of ours that belongs there."""

    def __init__(self):
        self._pairs: list[tuple[torch.Tensor, np.ndarray]] = []

    def add(self, layer: torch.nn.Module, ours: Mapping[str, jax.Array]) -> None:
        """A convolution, a dense layer or a normalisation."""
        weight = np.asarray(ours["kernel"] if "kernel" in ours else ours["scale"])
        if weight.ndim > 1:  # the channels of the result first, then those of the input
            weight = np.moveaxis(weight, (-1, -2), (0, 1))
        # A dense layer of ours may be a convolution of width 1 there.
        weight = weight.reshape(*weight.shape, *[1] * (layer.weight.ndim - weight.ndim))
        self._pairs.append((layer.weight, weight))
        if "bias" in ours:
            self._pairs.append((layer.bias, np.asarray(ours["bias"])))

    def add_normalised(self, layers: Iterable[torch.nn.Module], ours: Any, statistics: Any) -> None:
        """A convolution and its batch norm."""
        convolution, norm = layers
        self.add(convolution, {**ours["Conv_0"], "bias": ours["bias"]})
        self.add(norm, ours["Norm_0"]["BatchNorm_0"])
        running = statistics["Norm_0"]["BatchNorm_0"]
        self._pairs.append((norm.running_mean, np.asarray(running["mean"])))
        self._pairs.append((norm.running_var, np.asarray(running["var"])))

    def fill(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network with all its parameters replaced."""
        filled = {id(tensor) for tensor, _ in self._pairs}
        assert all(id(parameter) in filled for parameter in network.parameters())
        with torch.no_grad():
            for tensor, array in self._pairs:
                assert tensor.shape == array.shape, (tensor.shape, array.shape)
                tensor.copy_(torch.from_numpy(np.array(array)))
        return network


def _heads_first(dense: Mapping[str, jax.Array], num_heads: int) -> dict[str, np.ndarray]:
    """Queries, keys and values of a head side by side, where ours has those of all heads."""

    def swap(x):
        x = np.asarray(x)
        parts = x.reshape(*x.shape[:-1], 3, num_heads, -1)
        return parts.swapaxes(-3, -2).reshape(x.shape)

    return {name: swap(value) for name, value in dense.items()}
