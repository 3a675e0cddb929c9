"""Meshes of flat faces for what drives: panels, flanks, wheels and lamps, added in painting order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from framegrid_sim.shapes import FloatArray

MATERIALS: dict[str, FloatArray] = {
    name: np.array(bgr, float)
    for name, bgr in {
        "glass": (78, 66, 56),
        "glass_light": (122, 106, 92),
        "tyre": (26, 26, 26),
        "hub": (150, 150, 150),
        "trim": (46, 46, 48),
        "plate": (225, 230, 230),
        "under": (18, 18, 18),
        "white": (235, 235, 235),
        "amber": (40, 170, 240),
        "head_lamp": (215, 245, 250),
        "rear_lamp": (30, 30, 200),
    }.items()
}

# A cross-section's place: u, v, and w from and to.
Rail = tuple[float, float, float, float]
Size = tuple[float, float, float]  # length, width, height in metres
_CIRCLE = np.linspace(0, 2 * np.pi, 15)[:-1]


@dataclass
class Mesh:
    """Faces in painting order. Lamps are faces too; where they are is kept for their glow at night."""

    points: list[FloatArray] = field(default_factory=list)  # each (n, 3)
    colours: list[FloatArray] = field(default_factory=list)  # each (3,) BGR
    normals: list[FloatArray] = field(default_factory=list)  # each (3,), zero: seen from both sides
    lamps: list[int] = field(default_factory=list)  # faces that shine when the lights are on

    def add(self, points: FloatArray, colour: FloatArray, normal: FloatArray, lamp: bool = False) -> None:
        if lamp:
            self.lamps.append(len(self.points))
        self.points.append(np.asarray(points, float))
        self.colours.append(np.asarray(colour, float) * _shade(normal))
        self.normals.append(normal)

    def hull(self, profile: list[tuple[float, float]], half_widths: list[float], colour: FloatArray) -> None:
        """A body: the (u, v) profile, clockwise seen from the right, swept to both sides."""
        right = np.array([[u, v, -w] for (u, v), w in zip(profile, half_widths, strict=True)])
        left = right * [1, 1, -1]
        centre = np.concatenate([right, left]).mean(axis=0)
        for k in range(len(profile)):
            n = (k + 1) % len(profile)
            quad = np.array([right[k], right[n], left[n], left[k]])
            self.add(quad, colour, _outward(quad, centre))
        for side in (left, right):
            self.add(side, colour, _outward(side, centre))

    def sides(
        self, outline: list[tuple[float, float]], half_widths: tuple[float, float], colour: FloatArray
    ) -> None:
        """The same panel on both flanks; half_widths are those at its lowest and at its highest v."""
        vs = [v for _, v in outline]
        (w_low, w_high), low, high = half_widths, min(vs), max(vs)
        for sign in (1.0, -1.0):
            points = [
                (u, v, sign * (w_low + (w_high - w_low) * (v - low) / max(high - low, 1e-6)))
                for u, v in outline
            ]
            self.add(np.array(points), colour, np.array([0, 0, sign]))

    def patch(self, low: Rail, high: Rail, colour: FloatArray, lamp: bool = False) -> None:
        """A panel across the front or the rear, between two rails of its slope."""
        corners = [(*low[:2], low[2]), (*low[:2], low[3]), (*high[:2], high[3]), (*high[:2], high[2])]
        quad = np.array(corners)
        self.add(quad, colour, _outward(quad, np.array([0.0, 0.6, (low[2] + low[3]) / 2])), lamp)

    def wheels(self, us: tuple[float, ...], radius: float, w: float) -> None:
        for sign in (1.0, -1.0):
            for u in us:
                for r, name in ((radius, "tyre"), (radius * 0.58, "hub")):
                    self.add(_ring(u, radius, r, sign * w), MATERIALS[name], np.array([0, 0, sign]))

    def under(self, size_m: Size, clear: float, us: tuple[float, ...], radius: float) -> None:
        """What is seen beneath: the shadowed floor and the wheels of the far side."""
        dark = MATERIALS["under"]
        lh, w = size_m[0] / 2 * 0.94, size_m[1] / 2 * 0.9
        self.add(
            np.array([[-lh, 0.06, -w], [lh, 0.06, -w], [lh, 0.06, w], [-lh, 0.06, w]]), dark, np.zeros(3)
        )
        for sign in (1.0, -1.0):
            skirt = [(-lh, 0.1), (lh, 0.1), (lh, clear + 0.1), (-lh, clear + 0.1)]
            self.add(np.array([(u, v, sign * w) for u, v in skirt]), dark, np.zeros(3))
            for u in us:
                self.add(_ring(u, radius, radius, sign * w), MATERIALS["tyre"], np.zeros(3))

    def lamp_pairs(self, us: tuple[float, float], vs: tuple[float, float], ws: tuple[float, float]) -> None:
        """Head and rear lamps: u of front and rear, v from and to, w of the outer and the inner edge."""
        colours = (MATERIALS["head_lamp"], MATERIALS["rear_lamp"])
        for sign in (1.0, -1.0):
            for u, colour in zip(us, colours, strict=True):
                low, high = (u, vs[0], sign * ws[0], sign * ws[1]), (u, vs[1], sign * ws[0], sign * ws[1])
                self.patch(low, high, colour, lamp=True)


def _ring(u: float, v: float, radius: float, w: float) -> FloatArray:
    return np.stack([u + radius * np.cos(_CIRCLE), v + radius * np.sin(_CIRCLE), np.full(14, w)], -1)


def _shade(normal: FloatArray) -> float:
    """Light from the sky: bright from above, darker at the ends than at the sides."""
    if not normal.any():
        return 1.0
    return 0.84 + 0.24 * max(float(normal[1]), 0.0) - 0.1 * abs(float(normal[0]))


def _outward(points: FloatArray, centre: FloatArray) -> FloatArray:
    normal = np.cross(points[1] - points[0], points[2] - points[0])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
    result: FloatArray = normal if float((points.mean(axis=0) - centre) @ normal) >= 0 else -normal
    return result
