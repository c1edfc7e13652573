"""Holds the graphs that `vitstream export` writes against PyTorch's values, in ONNX Runtime: see ../conformance.py."""
