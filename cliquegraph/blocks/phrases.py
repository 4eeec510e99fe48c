"""Phrases that several kinds share."""

from __future__ import annotations

ROMAN = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


def stage_numeral(stage: int) -> str:
    """Return a stage as the paper writes it, ``II``; from 11 on in digits."""
    return ROMAN[stage] if stage < len(ROMAN) else str(stage)


def bottleneck_note(layers: int, kernel: int) -> str:
    """Return a drawing's note about the kernels V(j), which it does not show (section 3.3)."""
    each = "V1" if layers == 1 else f"V1 … V{layers}"
    size = f"{kernel}×{kernel}"
    return f"W: 1×1; after them {each}: {size}, one for each layer in all its stages"
