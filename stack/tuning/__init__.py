"""Tuning as users see it: `stack.tune`, what it shows meanwhile, and the page about it."""
