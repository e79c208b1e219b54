"""A curve for each contender, as a small SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 60, 150, 36, 44
FONT = 'font-family="sans-serif" font-size="12"'
COLOURS = ("#0b6e4f", "#7bc8a4", "#c1292e", "#235789", "#f1a208")
Curve = Mapping[float, float]


def plot(title: str, across: str, up: str, curves: Mapping[str, Curve]) -> str:
    """Draw curves of positive numbers over numbers; upwards, and across where it is far, by orders of magnitude."""
    columns = sorted({x for curve in curves.values() for x in curve})
    heights = [y for curve in curves.values() for y in curve.values()]
    low, high = math.floor(math.log10(min(heights))), math.ceil(math.log10(max(heights)))
    lines = [10.0**exponent for exponent in range(low, max(high, low + 1) + 1)]

    def place(x: float, y: float) -> tuple[float, float]:
        return _x(x, columns), _y(y, lines)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, title, "start", "bold"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, across, "middle"),
        _text(LEFT, TOP - 4, up, "end"),
    ]
    for y in lines:
        parts += [
            _line((LEFT, _y(y, lines)), (WIDTH - RIGHT, _y(y, lines)), "#dddddd"),
            _text(LEFT - 6, _y(y, lines) + 4, f"{y:g}", "end"),
        ]
    parts += [_text(_x(x, columns), HEIGHT - BOTTOM + 18, f"{x:g}", "middle") for x in columns]
    for number, (name, curve) in enumerate(curves.items()):
        parts += _curve(name, [place(x, y) for x, y in sorted(curve.items())], number)
    return "\n".join([*parts, "</svg>", ""])


def _curve(name: str, points: Sequence[tuple[float, float]], number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    legend = TOP + 16 + 18 * number
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points),
        _line((WIDTH - RIGHT + 12, legend - 4), (WIDTH - RIGHT + 32, legend - 4), colour),
        _text(WIDTH - RIGHT + 38, legend, name, "start"),
    ]


def _x(x: float, columns: Sequence[float]) -> float:
    span = WIDTH - LEFT - RIGHT
    far = columns[-1] > 50
    here, least, most = (
        math.log10(max(value, columns[-1] / 1000)) if far else value for value in (x, columns[0], columns[-1])
    )
    return LEFT + span * (0.04 + 0.92 * (here - least) / ((most - least) or 1))


def _y(y: float, lines: Sequence[float]) -> float:
    span = HEIGHT - TOP - BOTTOM
    return (
        HEIGHT - BOTTOM - span * (math.log10(y) - math.log10(lines[0])) / (math.log10(lines[-1]) - math.log10(lines[0]))
    )


def _line(begin: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    return f'<line x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
