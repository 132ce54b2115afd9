"""Quantised networks as integer programs, bit-exact with TFLite Micro's reference kernels."""
