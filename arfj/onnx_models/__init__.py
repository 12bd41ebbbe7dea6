"""ONNX files as networks: the operators of VNN-COMP's fully connected, convolutional and residual benchmarks."""

from arfj.onnx_models.read import from_onnx, read_onnx

__all__ = ["from_onnx", "read_onnx"]
