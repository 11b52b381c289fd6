"""What runs a network on a CPU core at which rate: ``python -m tests.bench.engines``, some ten minutes.

onnxruntime on an exported model against torch, in fp32 and in bf16, as `predict` runs both: frames of 480 x 360 in
batches of 8, one thread each, by turns.
"""

import statistics
import sys

from tests.bench.limits import limit

WIDTHS = (16, 64)
ROUNDS = 3
ENGINES = (("onnx", "fp32"), ("forward", "fp32"), ("forward", "bf16"))


def main() -> None:
    """Write a line for each width: milliseconds of a core for a frame, and onnxruntime's share of the others."""
    for width in WIDTHS:
        rounds = [[limit(what, width, 360, 480, 8, precision, 1) for what, precision in ENGINES] for _ in range(ROUNDS)]
        onnx, fp32, bf16 = (1000 / statistics.median(rates) for rates in zip(*rounds, strict=True))
        sys.stdout.write(
            f"width {width}: onnxruntime {onnx:.0f} ms, torch fp32 {fp32:.0f} ms, torch bf16 {bf16:.0f} ms; "
            f"onnxruntime takes {onnx / fp32:.2f} of fp32 and {onnx / bf16:.2f} of bf16\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
