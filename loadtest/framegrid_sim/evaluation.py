"""The ten clips on which counting is judged. No model is trained on their streets: the seeds are used nowhere
else.

Each is at least 120 s at 10 frames a second. Between them: every light, rain, queues at a red light, sparse
and busy pavements, groups that walk towards each other, bicycles in numbers.
"""

from __future__ import annotations

from framegrid_sim.settings import SceneSettings

EVALUATION_CLIPS: dict[str, SceneSettings] = {
    "day-quiet": SceneSettings(
        seed=920_001, duration_s=120, persons_per_minute=12, vehicles_per_minute=10, stop_and_go=False
    ),
    "day-stop-and-go": SceneSettings(
        seed=920_002, duration_s=120, persons_per_minute=18, vehicles_per_minute=26, stop_and_go=True
    ),
    "day-crossing-groups": SceneSettings(
        seed=920_003, duration_s=120, persons_per_minute=34, vehicles_per_minute=12, group_share=0.8
    ),
    "day-bicycles": SceneSettings(
        seed=920_004, duration_s=120, persons_per_minute=16, vehicles_per_minute=24, bicycle_share=0.55
    ),
    "day-rain": SceneSettings(
        seed=920_005, duration_s=120, persons_per_minute=20, vehicles_per_minute=16, rain=True, noise=4
    ),
    "dusk": SceneSettings(
        seed=920_006, duration_s=120, light="dusk", persons_per_minute=24, vehicles_per_minute=18, noise=4
    ),
    "dusk-stop-and-go-groups": SceneSettings(
        seed=920_007,
        duration_s=150,
        light="dusk",
        persons_per_minute=30,
        vehicles_per_minute=24,
        group_share=0.7,
        stop_and_go=True,
        noise=4,
    ),
    "night": SceneSettings(
        seed=920_008, duration_s=120, light="night", persons_per_minute=16, vehicles_per_minute=16, noise=6
    ),
    "night-rain": SceneSettings(
        seed=920_009,
        duration_s=120,
        light="night",
        rain=True,
        persons_per_minute=14,
        vehicles_per_minute=18,
        noise=5,
    ),
    "day-loiterers": SceneSettings(
        seed=920_010, duration_s=150, persons_per_minute=20, vehicles_per_minute=20, pauses=0.5, noise=5
    ),
}
