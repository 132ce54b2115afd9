"""Graph passes: IRModule in, IRModule out, one a file; `pipeline.py` has their order.

The folder keeps the name that TVM users know; the passes rewrite Relax, which took Relay's place in TVM.
"""
