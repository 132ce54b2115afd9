"""Quantised networks on machines with vectors of bytes: sums of products in int32, everything else in float32, as ONNX Runtime has it."""
