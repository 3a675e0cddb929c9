"""Where a tracked object is and where it goes: a Kalman filter over time, not over frames.

One point (the anchor) moves in x and y with nearly constant velocity, disturbed by white noise in its
acceleration. All uncertainty is kept in units of the object's own size `scale` = sqrt(width * height), so one
covariance serves both axes and near and far objects alike, and a step costs a microsecond of plain Python:
numpy would cost ten times that at these sizes. Source: Bar-Shalom, Li, Kirubarajan, "Estimation with
Applications to Tracking and Navigation", 6.2.2 (continuous white noise acceleration).
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """How objects move, in sizes (sqrt of box width * height) and seconds."""

    # A detector's box wobbles by a few percent of its size from frame to frame.
    measurement_noise: float = 0.055
    # Speed that is likely for an object just seen, sizes/s: a walker 1.2, a car in a side street 3.
    birth_speed: float = 2.0
    # Spectral density of the acceleration noise, sizes^2/s^3: a walker stops from 1.2 sizes/s within about 1
    # s.
    acceleration_noise: float = 0.6
    # Seconds in which box width and height follow a change (limbs swing; perspective grows slowly).
    size_follow_s: float = 0.3
    # Seconds in which an unseen object's velocity fades: it walks on for a while, then may have stopped.
    coast_fade_s: float = 3.0


class Motion:
    """The filtered anchor point, velocity and box size of one object at `time_s`."""

    __slots__ = ("h", "p00", "p01", "p11", "settings", "time_s", "vx", "vy", "w", "x", "y")

    def __init__(
        self, time_s: float, x: float, y: float, w: float, h: float, *, settings: MotionSettings
    ) -> None:
        self.settings = settings
        self.time_s = time_s
        self.x, self.y, self.w, self.h = x, y, w, h
        self.vx = self.vy = 0.0
        self.p00 = settings.measurement_noise**2
        self.p01 = 0.0
        self.p11 = settings.birth_speed**2

    @property
    def scale(self) -> float:
        """Size of the object: sqrt(width * height), relative to the picture."""
        return math.sqrt(self.w * self.h)

    def predict(self, time_s: float, *, coasting: bool = False) -> None:
        """Move to `time_s` (not before the last one); uncertainty grows with the time, not with the calls."""
        dt = time_s - self.time_s
        if dt <= 0.0:
            return
        noise = self.settings.acceleration_noise
        self.x += self.vx * dt
        self.y += self.vy * dt
        self.p00 += dt * (2.0 * self.p01 + dt * self.p11) + noise * dt * dt * dt / 3.0
        self.p01 += dt * self.p11 + noise * dt * dt / 2.0
        self.p11 += noise * dt
        if coasting:
            fade = math.exp(-dt / self.settings.coast_fade_s)
            self.vx *= fade
            self.vy *= fade
        self.time_s = time_s

    def update(
        self, x: float, y: float, w: float, h: float, *, follow_s: float, dt_s: float, noise_factor: float
    ) -> None:
        """Take a measured anchor and size at the current time.

        `dt_s` is the time since the last one, `noise_factor` how much noisier than usual the position is.
        """
        innovation_variance = self.p00 + (noise_factor * self.settings.measurement_noise) ** 2
        gain, rate_gain = self.p00 / innovation_variance, self.p01 / innovation_variance
        dx, dy = x - self.x, y - self.y
        self.x += gain * dx
        self.y += gain * dy
        self.vx += rate_gain * dx
        self.vy += rate_gain * dy
        self.p11 -= rate_gain * self.p01
        self.p01 -= gain * self.p01
        self.p00 -= gain * self.p00
        share = 1.0 - math.exp(-dt_s / follow_s)
        self.w += share * (w - self.w)
        self.h += share * (h - self.h)
