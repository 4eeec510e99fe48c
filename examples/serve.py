"""Serves an exported network: images in, the most likely classes out.

    cliquegraph export specs/quickstart.yaml --weights runs/quickstart-torch/best.safetensors \
        --to onnx -o quickstart.onnx
    python examples/serve.py quickstart.onnx --port 8000
    curl --data-binary @digit.png http://localhost:8000

Needs onnxruntime, NumPy and Pillow; neither cliquegraph nor PyTorch.
"""

import argparse
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime
from PIL import Image

LARGEST = 20_000_000  # bytes of an image file


class Network:
    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        meta = json.loads(self.session.get_modelmeta().custom_metadata_map["cliquegraph"])
        if meta["mean"] is None:
            raise SystemExit(f"{path} has no mean and std: export weights that are in their run")
        self.meta = meta
        self.mean, self.std = (
            np.array(meta[key], np.float32)[:, None, None] for key in ("mean", "std")
        )

    def pixels(self, content: bytes) -> np.ndarray:
        """The image as in training: its center, resized and normalized."""
        height, width = self.meta["height"], self.meta["width"]
        image = Image.open(io.BytesIO(content)).convert(
            "L" if self.meta["channels"] == 1 else "RGB"
        )
        if image.size != (width, height):
            scale = self.meta["margin"] * max(height / image.height, width / image.width)
            box_width, box_height = (
                min(image.width, width / scale),
                min(image.height, height / scale),
            )
            left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
            box = (left, top, left + box_width, top + box_height)
            image = image.resize((width, height), Image.Resampling.BILINEAR, box)
        array = np.asarray(image, np.float32).reshape(height, width, -1).transpose(2, 0, 1)
        return (array / 255 - self.mean) / self.std

    def classify(self, content: bytes) -> list[dict[str, object]]:
        (logits,) = self.session.run(None, {"images": self.pixels(content)[None]})
        last = logits.reshape(-1, logits.shape[-1])[-1].astype(np.float64)  # of the last stage
        shares = np.exp(last - last.max())
        shares /= shares.sum()
        best = np.argsort(-shares)[:5]
        return [{"class": self.meta["classes"][i], "probability": float(shares[i])} for i in best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    network = Network(arguments.file)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                size = int(self.headers.get("Content-Length", 0))
                if not 0 < size <= LARGEST:
                    raise ValueError("the body must be an image file")
                status, answer = 200, network.classify(self.rfile.read(size))
            except (ValueError, OSError, Image.DecompressionBombError) as error:
                status, answer = 400, {"error": str(error)}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("localhost", arguments.port), Handler) as server:
        print(f"http://localhost:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
