"""The sizes a network works on: which outputs it can make, and how much more of the image they need. Plain integers."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Heights and widths of a network's outputs in pixels: ``smallest``, and larger ones in steps of ``stride``.

    The image has ``margin`` pixels more on each side; 0 where convolutions are padded.
    """

    stride: int
    smallest: int
    margin: int

    def at_least(self, size: int) -> int:
        """Return the smallest output size that is not below ``size``."""
        return self.smallest + max(0, -(-(size - self.smallest) // self.stride)) * self.stride

    def at_most(self, size: int) -> int:
        """Return the largest output size that is not above ``size``, or the smallest there is."""
        return self.smallest + max(0, (size - self.smallest) // self.stride) * self.stride

    def nearest(self, size: int) -> int:
        """Return the output size nearest to ``size``; of two that are as near, the larger."""
        return self.at_most(size + self.stride // 2)

    def input_for(self, size: int) -> int:
        """Return the size of the smallest image whose output covers ``size`` pixels."""
        return self.at_least(size) + 2 * self.margin

    @property
    def rule(self) -> str:
        """What output sizes are, in words: "multiples of 16"."""
        rest = self.smallest % self.stride
        return f"multiples of {self.stride}" + (f" plus {rest}" if rest else "")


def padded_sizes(depth: int) -> Sizes:
    """Return the sizes of a network that halves ``depth`` times and pads every convolution."""
    return Sizes(stride=2**depth, smallest=2**depth, margin=0)


def unpadded_sizes(depth: int) -> Sizes:
    """Return the sizes of a U-Net of two unpadded 3x3 convolutions a level (arXiv 1505.04597, figure 1).

    With ``s = 2 ** depth`` and b pixels behind the convolutions of the bottom, the expanding path, which doubles and
    then loses 4 pixels at each level, ends at ``s b - 4 (s - 1)``; the contracting path began, with 4 pixels more
    before each halving, at ``s (b + 4) + 4 (s - 1)``. So the image has ``12 s - 8`` pixels more than the output: 184 at
    depth 4, where 572 pixels become 388.
    """
    stride = 2**depth
    return Sizes(stride=stride, smallest=min(4, stride), margin=6 * stride - 4)
