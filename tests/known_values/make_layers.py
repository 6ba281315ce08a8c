"""Writes layers.json: outputs and gradients of PyTorch's layers, with the parameters under the names of fg.nn.

Run it with a Python that has torch.
"""

import json
from pathlib import Path

import numpy
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
RANDOM = numpy.random.default_rng(0)
CASES = {}


def numbers(*shape):
    return torch.tensor(RANDOM.normal(size=shape).round(2))


def listed(x):
    return numpy.asarray(x.detach()).round(13).tolist()


def split_thirds(name, value):
    """The joint weight of queries, keys and values under three names."""
    kind = name.rsplit("in_proj_")[1]
    start = name.rsplit("in_proj_")[0]
    thirds = value.chunk(3)
    return {f"{start}{part}_projection.{kind}": x for part, x in zip(("query", "key", "value"), thirds, strict=True)}


def renamed(values, rename):
    found = {}
    for name, value in values.items():
        for old, new in rename.items():
            name = name.replace(old, new)
        found.update(split_thirds(name, value) if "in_proj_" in name else {name: value})
    return {name: listed(x) for name, x in found.items()}


def recurrent_names(layers, directions):
    names = {}
    for layer in reversed(range(layers)):
        for direction in reversed(range(directions)):
            end = f"_l{layer}" + ("_reverse" if direction else "")
            cell = f"cells.{layer * directions + direction}."
            for old, new in [("weight_ih", "input_weight"), ("weight_hh", "hidden_weight")]:
                names[old + end] = cell + new
            for old, new in [("bias_ih", "input_bias"), ("bias_hh", "hidden_bias")]:
                names[old + end] = cell + new
    return names


def case(name, layer, *inputs, rename=None, call=None):
    """The output of a layer with random parameters, and the gradients of its sum with random weights."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(numbers(*parameter.shape))
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    output = call(layer, *inputs) if call else layer(*inputs)
    cotangent = numbers(*output.shape)
    (output * cotangent).sum().backward()
    rename = rename or {}
    CASES[name] = {
        "parameters": renamed(dict(layer.named_parameters()), rename),
        "inputs": [listed(x) for x in inputs],
        "output": listed(output),
        "cotangent": listed(cotangent),
        "parameter_gradients": renamed({k: p.grad for k, p in layer.named_parameters()}, rename),
        "input_gradients": [listed(x.grad) if x.grad is not None else None for x in inputs],
    }


def simple_layers():
    case("Bilinear", nn.Bilinear(2, 3, 4), numbers(5, 2), numbers(5, 3))
    case("Embedding", nn.Embedding(5, 3), torch.tensor([[0, 4, 1], [4, 4, 2]]))
    case("LayerNorm", nn.LayerNorm((3, 2)), numbers(4, 3, 2))
    case("RMSNorm", nn.RMSNorm(5, eps=1e-5), numbers(4, 5))
    case("GroupNorm", nn.GroupNorm(2, 4), numbers(2, 4, 3))
    case("InstanceNorm", nn.InstanceNorm2d(2, affine=True), numbers(2, 2, 2, 3))
    case("BatchNorm", nn.BatchNorm1d(3), numbers(5, 3))
    case("BatchNorm of images", nn.BatchNorm2d(3), numbers(2, 3, 2, 2))


def convolutions():
    case("Conv1d", nn.Conv1d(2, 3, 3, stride=2, padding=2), numbers(2, 2, 7))
    case(
        "Conv2d", nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2), numbers(2, 4, 5, 6)
    )
    case("Conv2d depthwise", nn.Conv2d(3, 6, 3, padding="same", groups=3, bias=False), numbers(1, 3, 4, 4))
    case("Conv3d", nn.Conv3d(1, 2, 2, stride=(1, 2, 1), padding=(0, 1, 0)), numbers(1, 1, 3, 3, 2))
    case("ConvTranspose1d", nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1), numbers(2, 2, 4))
    layer = nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 2), dilation=(2, 1), groups=2)
    case("ConvTranspose2d", layer, numbers(1, 4, 3, 3))
    case("ConvTranspose3d", nn.ConvTranspose3d(1, 2, 2, stride=2), numbers(1, 1, 2, 2, 2))


def pooling():
    case("MaxPool1d", nn.MaxPool1d(3, 2, 1), numbers(2, 8))
    case("MaxPool2d", nn.MaxPool2d((2, 3), padding=(1, 0), dilation=(1, 2)), numbers(1, 2, 5, 7))
    case("MaxPool3d", nn.MaxPool3d(2), numbers(1, 1, 4, 4, 2))
    case("AvgPool1d", nn.AvgPool1d(3), numbers(2, 7))
    case("AvgPool2d", nn.AvgPool2d((3, 2), stride=2, padding=1), numbers(1, 2, 5, 5))
    case("AvgPool2d without padding", nn.AvgPool2d(3, 2, 1, count_include_pad=False), numbers(1, 2, 5, 5))
    case("AvgPool3d", nn.AvgPool3d(2), numbers(1, 1, 4, 2, 2))
    case("AdaptiveAvgPool1d", nn.AdaptiveAvgPool1d(3), numbers(2, 8))
    case("AdaptiveAvgPool2d", nn.AdaptiveAvgPool2d((2, 3)), numbers(1, 2, 4, 7))
    case("AdaptiveAvgPool3d", nn.AdaptiveAvgPool3d((2, 1, 2)), numbers(1, 1, 3, 2, 2))
    case("AdaptiveMaxPool1d", nn.AdaptiveMaxPool1d(5), numbers(2, 8))
    case("AdaptiveMaxPool2d", nn.AdaptiveMaxPool2d(3), numbers(1, 2, 4, 7))
    case("AdaptiveMaxPool3d", nn.AdaptiveMaxPool3d(1), numbers(1, 1, 3, 2, 2))


def attention():
    names = {"out_proj": "output_projection"}
    layer = lambda: nn.MultiheadAttention(4, 2, batch_first=True)
    mask = torch.tensor([[True, True, False, True], [True, True, True, True]])

    def masked(layer, x):
        return layer(x, x, x, key_padding_mask=~mask, need_weights=False)[0]

    case(
        "MultiHeadAttention with a mask",
        layer(),
        numbers(2, 4, 4),
        rename=names,
        call=masked,
    )
    triangle = nn.Transformer.generate_square_subsequent_mask(4)

    def causal(layer, x):
        return layer(x, x, x, attn_mask=triangle, is_causal=True, need_weights=False)[0]

    case(
        "MultiHeadAttention, causal",
        layer(),
        numbers(4, 4),
        rename=names,
        call=causal,
    )

    def crossed(layer, x, context):
        return layer(x, context, context, need_weights=False)[0]

    case(
        "MultiHeadAttention to a context",
        layer(),
        numbers(2, 3, 4),
        numbers(2, 5, 4),
        rename=names,
        call=crossed,
    )

    def grouped(_, query, key, value):
        query, key, value = (x.transpose(-3, -2) for x in (query, key, value))
        found = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return found.transpose(-3, -2)

    case("grouped queries", nn.Identity(), numbers(2, 3, 4, 2), numbers(2, 3, 2, 2), numbers(2, 3, 2, 3), call=grouped)


def transformers():
    names = {
        "out_proj": "output_projection", "self_attn": "attention", "multihead_attn": "context_attention",
        "linear1": "feed_forward.first", "linear2": "feed_forward.second", "norm1": "attention_norm",
    }  # fmt: skip
    triangle = nn.Transformer.generate_square_subsequent_mask(3)
    for norm_first in (True, False):
        options = dict(d_model=4, nhead=2, dim_feedforward=6, dropout=0.0, batch_first=True, norm_first=norm_first)
        end = "norm first" if norm_first else "norm last"
        encoder = nn.TransformerEncoderLayer(**options, activation="gelu")
        case(
            f"TransformerEncoderBlock, {end}", encoder, numbers(2, 3, 4), rename={**names, "norm2": "feed_forward_norm"}
        )
        decoder = nn.TransformerDecoderLayer(**options)
        case(
            f"TransformerDecoderBlock, {end}", decoder, numbers(2, 3, 4), numbers(2, 2, 4),
            rename={**names, "norm2": "context_norm", "norm3": "feed_forward_norm"},
            call=lambda layer, x, context: layer(x, context, tgt_mask=triangle, tgt_is_causal=True),
        )  # fmt: skip


def recurrent():
    first = lambda layer, x: layer(x)[0]
    case("RNN", nn.RNN(2, 3, batch_first=True), numbers(2, 4, 2), rename=recurrent_names(1, 1), call=first)
    relu = nn.RNN(2, 3, nonlinearity="relu", batch_first=True)
    case("RNN with relu", relu, numbers(4, 2), rename=recurrent_names(1, 1), call=first)
    gru = nn.GRU(2, 3, num_layers=2, batch_first=True)
    case("GRU", gru, numbers(2, 4, 2), rename=recurrent_names(2, 1), call=first)
    lstm = nn.LSTM(2, 3, num_layers=2, bidirectional=True, batch_first=True)
    case("LSTM", lstm, numbers(2, 4, 2), rename=recurrent_names(2, 2), call=first)

    def last(layer, x, hidden, memory):
        output, states = layer(x, (hidden, memory))
        return torch.cat([output.flatten(), *(s.flatten() for s in states)])

    lstm = nn.LSTM(2, 3, batch_first=True)
    case(
        "LSTM with states",
        lstm,
        numbers(2, 4, 2),
        numbers(1, 2, 3),
        numbers(1, 2, 3),
        rename=recurrent_names(1, 1),
        call=last,
    )


def normalized_weights():
    names = {
        "parametrizations.weight.original0": "scale",
        "parametrizations.weight.original1": "direction",
        "bias": "layer.bias",
    }
    case("WeightNorm", nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), numbers(4, 3), rename=names)
    names = {"parametrizations.weight.original0": "scale", "parametrizations.weight.original1": "direction"}
    conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 3, 2, bias=False))
    case("WeightNorm of a convolution", conv, numbers(2, 2, 4), rename=names)


def states():
    """What changes with each call: running statistics, and the vectors of power iterations."""
    layer = nn.BatchNorm2d(2)
    batches = [numbers(3, 2, 2, 2), numbers(2, 2, 3, 1)]
    outputs = [listed(layer(x)) for x in batches]
    after = {"mean": listed(layer.running_mean), "variance": listed(layer.running_var)}
    inference = listed(layer.eval()(batches[0]))
    CASES["running statistics"] = dict(
        batches=[listed(x) for x in batches], outputs=outputs, state=after, inference=inference
    )
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4, bias=False))
    weight = numbers(4, 3)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(weight)
    spectral = layer.parametrizations.weight[0]
    before = {"left": listed(spectral._u), "right": listed(spectral._v)}
    x = numbers(2, 3)
    output = layer(x)
    cotangent = numbers(*output.shape)
    (output * cotangent).sum().backward()
    CASES["power iteration"] = {
        "weight": listed(weight), "x": listed(x), "before": before, "output": listed(output),
        "cotangent": listed(cotangent),
        "after": {"left": listed(spectral._u), "right": listed(spectral._v)},
        "gradient": listed(layer.parametrizations.weight.original.grad),
    }  # fmt: skip


def main():
    simple_layers()
    convolutions()
    pooling()
    attention()
    transformers()
    recurrent()
    normalized_weights()
    states()
    path = Path(__file__).with_name("layers.json")
    path.write_text(json.dumps(CASES, separators=(",", ":")) + "\n")
    print(f"wrote {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
