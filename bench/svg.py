"""Line plots with two logarithmic axes, as SVG: enough to see how something grows."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 460, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 32, 34, 96
_COLORS = ("#0b6e99", "#c4501b", "#4b7f2b", "#7d4a9c", "#8a6d00", "#444444")
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.t{font-size:14px;font-weight:bold}.g{stroke:#ddd}.f{fill:none;stroke:#888}"
)

Points = Sequence[tuple[float, float]]


class Panel(NamedTuple):
    """One plot."""

    title: str
    across: str
    """What the horizontal axis is."""
    up: str
    lines: Mapping[str, Points]
    """By what each line is. All values are above 0."""


class _Axis(NamedTuple):
    low: int
    high: int
    """Powers of ten."""
    start: float
    end: float
    """Pixels."""

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "_Axis":
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return cls(low, max(high, low + 1), start, end)

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def figure(panels: Sequence[Panel]) -> str:
    """Return the text of an SVG file with plots side by side."""
    body = [f'<g transform="translate({number * _WIDTH} 0)">{_panel(panel)}</g>' for number, panel in enumerate(panels)]
    size = f'width="{_WIDTH * len(panels)}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH * len(panels)} {_HEIGHT}"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<style>{_STYLE}</style>",
            background,
            *body,
            "</svg>",
            "",
        ]
    )


def _panel(panel: Panel) -> str:
    points = [point for line in panel.lines.values() for point in line]
    across = _Axis.around([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    up = _Axis.around([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [_text(_LEFT, 20, panel.title, "t"), *_grid(across, up)]
    parts.append(_text((across.start + across.end) / 2, up.start + 34, panel.across, anchor="middle"))
    parts.append(_text(14, (up.start + up.end) / 2, panel.up, anchor="middle", turned=True))
    for number, (name, line) in enumerate(panel.lines.items()):
        color = _COLORS[number % len(_COLORS)]
        placed = [(across.place(x), up.place(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in placed]
        column, row = number % 2, number // 2
        left, top = _LEFT + column * (_WIDTH - _LEFT) / 2, up.start + 54 + row * 17
        parts.append(f'<rect x="{left:.1f}" y="{top - 9:.1f}" width="10" height="10" fill="{color}"/>')
        parts.append(_text(left + 15, top, name))
    return "\n".join(parts)


def _grid(across: _Axis, up: _Axis) -> list[str]:
    parts = []
    for value in across.ticks():
        x = across.place(value)
        parts.append(f'<line class="g" x1="{x:.1f}" y1="{up.start}" x2="{x:.1f}" y2="{up.end}"/>')
        parts.append(_text(x, up.start + 16, f"{value:,.10g}", anchor="middle"))
    for value in up.ticks():
        y = up.place(value)
        parts.append(f'<line class="g" x1="{across.start}" y1="{y:.1f}" x2="{across.end}" y2="{y:.1f}"/>')
        parts.append(_text(across.start - 6, y + 4, f"{value:,.10g}", anchor="end"))
    frame = f'x="{across.start}" y="{up.end}" width="{across.end - across.start}" height="{up.start - up.end}"'
    return [*parts, f'<rect class="f" {frame}/>']


def _text(x: float, y: float, text: str, style: str = "", *, anchor: str = "start", turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    name = f' class="{style}"' if style else ""
    return f'<text{name} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'
