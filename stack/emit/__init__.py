"""From scheduled programs to the files of a library. One file a container: `native` for CPUs, `cuda` for NVIDIA GPUs."""
