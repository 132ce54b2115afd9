"""Small quantised networks in TFLite's format, with random weights: what tests of C projects compile."""

import numpy as np

from tests.frontends.tflite.build import C, T, model, op


def residual(seed: int = 0) -> bytes:
    """Convolution, depthwise convolution, residual addition, pooling, dense layer, softmax: int8 [1, 8, 8, 3] -> [1, 5]."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape, np.int8)

    def bias(count: int) -> np.ndarray:
        return rng.integers(-2000, 2000, count, np.int32)

    scales = [0.01, 0.02, 0.015, 0.03, 0.01, 0.02, 0.015, 0.03]
    image = (1, 8, 8, 8)
    return model(
        inputs=[T("image", (1, 8, 8, 3), "int8", scale=0.05, zero_point=-5)],
        constants=[
            C("w1", weights(8, 3, 3, 3), scale=scales, axis=0),
            C("b1", bias(8), scale=[0.05 * scale for scale in scales], axis=0),
            C("w2", weights(1, 3, 3, 8), scale=scales, axis=3),
            C("b2", bias(8), scale=[0.1 * scale for scale in scales], axis=0),
            C("axes", np.array([1, 2], np.int32)),
            C("w3", weights(5, 8), scale=0.001),
            C("b3", bias(5), scale=0.001 * 0.1),
        ],
        ops=[
            op("CONV_2D", ["image", "w1", "b1"], ["c1"], padding="SAME", stride_h=1, stride_w=1, fused_activation_function="RELU"),
            op("DEPTHWISE_CONV_2D", ["c1", "w2", "b2"], ["c2"], padding="SAME", stride_h=1, stride_w=1, depth_multiplier=1),
            op("ADD", ["c1", "c2"], ["sum"], fused_activation_function="RELU"),
            op("MEAN", ["sum", "axes"], ["pooled"], keep_dims=False),
            op("FULLY_CONNECTED", ["pooled", "w3", "b3"], ["logits"]),
            op("SOFTMAX", ["logits"], ["scores"], beta=1.0),
        ],
        tensors=[
            T("c1", image, "int8", scale=0.1, zero_point=-128),
            T("c2", image, "int8", scale=0.2, zero_point=4),
            T("sum", image, "int8", scale=0.25, zero_point=-128),
            T("pooled", (1, 8), "int8", scale=0.1, zero_point=-128),
            T("logits", (1, 5), "int8", scale=0.05, zero_point=3),
            T("scores", (1, 5), "int8", scale=1 / 256, zero_point=-128),
        ],
        outputs=["scores"],
    )
