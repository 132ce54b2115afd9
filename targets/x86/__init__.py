"""x86-64 machines: this one as it is detected, and named ones for cross-compiling."""
