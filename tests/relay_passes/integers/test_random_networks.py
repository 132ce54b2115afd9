"""Random quantised networks of many operators against TFLite Micro: what one operator hands the next, and every program beside others."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.frontends.tflite.build import C, Op, T, model, op
from tests.relay_passes.integers.host import expect_same

Shape = tuple[int, ...]
ACTIVATIONS = ["NONE", "RELU", "RELU6"]


@dataclass
class Network:
    """A network in the making; `last` is the image that the next operator takes."""

    rng: np.random.Generator
    last: T
    tensors: list[T] = field(default_factory=list)
    constants: list[T] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)

    def scale(self, low: float = 0.02, high: float = 0.2) -> float:
        return float(np.float32(self.rng.uniform(low, high)))

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-127, 128, shape).astype("int8")

    def constant(self, value: np.ndarray, **meaning: object) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(C(name, value, **meaning))
        return name

    def emit(self, name: str, inputs: list[str], shape: Shape, spread: float | None = None, **options: object) -> None:
        """One operator, whose result is `spread` wide, so that it fills its integers, or has the scale of `last`."""
        meaning = (self.last.scale, self.last.zero_point)
        if spread is not None:
            meaning = (float(np.float32(spread * self.rng.uniform(0.4, 1.5) / 128)), int(self.rng.integers(-60, 60)))
        result = T(f"t{len(self.tensors)}", shape, "int8", scale=meaning[0], zero_point=meaning[1])
        self.tensors.append(result)
        self.ops.append(op(name, inputs, [result.name], **options))
        self.last = result

    def width(self, products: int, scales: np.ndarray) -> float:
        """Of a sum of that many products, two standard deviations."""
        return float(2 * 74 * 74 * self.last.scale * np.mean(scales) * np.sqrt(products))

    def scales(self, filters: int, products: int) -> np.ndarray:
        """Of weights that leave what they sum about as wide as it was, so that nothing drifts away from the limit of six."""
        return np.float32(self.rng.uniform(0.5, 1.5, filters) / (74 * np.sqrt(products)))

    def activation(self) -> str:
        return str(self.rng.choice(ACTIVATIONS))

    def convolution(self) -> None:
        n, h, w, c = self.last.shape
        filters, kernel, stride = (int(self.rng.integers(low, high)) for low, high in ((1, 9), (1, 4), (1, 3)))
        scales = self.scales(filters, kernel * kernel * c)
        names = [self.constant(self.weights(filters, kernel, kernel, c), scale=scales)]
        names.append(self.constant(self.rng.integers(-999, 999, filters).astype("int32"), scale=np.float32(self.last.scale) * scales))
        self.emit(
            "CONV_2D", [self.last.name, *names], (n, -(-h // stride), -(-w // stride), filters), self.width(kernel * kernel * c, scales),
            padding="SAME", stride_h=stride, stride_w=stride, dilation_h_factor=1, dilation_w_factor=1,
            fused_activation_function=self.activation(),
        )  # fmt: skip

    def depthwise(self) -> None:
        n, h, w, c = self.last.shape
        scales = self.scales(c, 9)
        name = self.constant(self.weights(1, 3, 3, c), scale=scales, axis=3)
        self.emit(
            "DEPTHWISE_CONV_2D", [self.last.name, name], (n, h, w, c), self.width(9, scales), padding="SAME", stride_h=1, stride_w=1,
            depth_multiplier=1, dilation_h_factor=1, dilation_w_factor=1, fused_activation_function=self.activation(),
        )  # fmt: skip

    def arithmetic(self) -> None:
        """With an earlier tensor of the same shape, with itself, or with a constant."""
        self.constant(self.weights(self.last.shape[3]), scale=self.scale(0.01, 0.03), zero_point=3)
        alike = [tensor for tensor in self.tensors if tensor.shape == self.last.shape]
        other = [*alike, self.constants[-1]][int(self.rng.integers(len(alike) + 1))]
        name = str(self.rng.choice(["ADD", "MUL"] if other is self.last else ["ADD", "SUB", "MUL"]))
        wide = [128 * item.scale for item in (self.last, other)]
        spread = wide[0] * wide[1] / 2 if name == "MUL" else sum(wide)
        self.emit(name, [self.last.name, other.name], tuple(self.last.shape), spread, fused_activation_function=self.activation())

    def pool(self) -> None:
        n, h, w, c = self.last.shape
        name = str(self.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
        self.emit(
            name, [self.last.name], (n, -(-h // 2), -(-w // 2), c), padding="SAME", filter_height=3, filter_width=2, stride_h=2,
            stride_w=2,
        )  # fmt: skip

    def pad(self) -> None:
        n, h, w, c = self.last.shape
        widths = self.constant(np.array([[0, 0], [1, 0], [0, 2], [0, 0]], "int32"))
        self.emit("PAD", [self.last.name, widths], (n, h + 1, w + 2, c))

    def turn(self) -> None:
        n, h, w, c = self.last.shape
        self.emit("TRANSPOSE", [self.last.name, self.constant(np.array([0, 2, 3, 1], "int32"))], (n, w, c, h))

    def join(self) -> None:
        n, h, w, c = self.last.shape
        more = self.constant(self.weights(n, h, w, 2), scale=self.last.scale, zero_point=self.last.zero_point)
        self.emit("CONCATENATION", [self.last.name, more], (n, h, w, c + 2), axis=3)

    def requantize(self) -> None:
        self.emit("QUANTIZE", [self.last.name], tuple(self.last.shape), 128 * self.last.scale)

    def finish(self) -> None:
        """A mean over the image and a dense layer."""
        n, _, _, c = self.last.shape
        self.emit("MEAN", [self.last.name, self.constant(np.array([1, 2], "int32"))], (n, c), 40 * self.last.scale, keep_dims=False)
        name = self.constant(self.weights(7, c), scale=0.013)
        self.emit("FULLY_CONNECTED", [self.last.name, name], (n, 7), self.width(c, np.float32([0.013])))


@pytest.mark.parametrize("seed", range(6))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = T("x", (1, 7, 6, 3), "int8", scale=0.06, zero_point=5)
    network = Network(rng, x)
    steps = [
        network.convolution, network.depthwise, network.arithmetic, network.pool, network.pad, network.turn, network.join,
        network.requantize,
    ]  # fmt: skip
    for _ in range(9):
        steps[int(rng.integers(len(steps)))]()
    network.finish()
    outputs = list(dict.fromkeys([tensor.name for tensor in [*network.tensors[::2], network.last]]))  # half of them, and the last
    data = model(inputs=[x], constants=network.constants, tensors=network.tensors, ops=network.ops, outputs=outputs)
    expect_same(data, [(x.shape, "int8")], runs=2, seed=seed)
