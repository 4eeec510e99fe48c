"""Parameters and multiply–accumulates, counted by hand."""

from dataclasses import dataclass


@dataclass
class Count:
    """Parameters and MACs, summed in closed form: nothing here is unrolled."""

    parameters: int = 0
    macs: int = 0

    def kernel(self, weights: int, pixels: int, uses: int = 1) -> None:
        self.parameters += weights
        self.macs += weights * pixels * uses

    def norm(self, channels: int) -> None:
        self.parameters += 2 * channels

    def bias(self, channels: int) -> None:
        self.parameters += channels

    def linear(self, inputs: int, outputs: int) -> None:
        self.parameters += inputs * outputs + outputs
        self.macs += inputs * outputs
