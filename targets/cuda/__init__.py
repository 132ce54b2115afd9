"""NVIDIA GPUs, by compute capability. Compiling needs the CUDA compiler and no GPU; running needs a GPU and its driver."""
