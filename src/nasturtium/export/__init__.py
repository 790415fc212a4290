"""What the user takes home: model.py, weights, ONNX, the architecture and a model card."""

from nasturtium.export.onnx import Agreement
from nasturtium.export.writing import FILES, write

__all__ = ["FILES", "Agreement", "write"]
