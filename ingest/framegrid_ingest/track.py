"""One followed object and the numbers that rule how objects are followed."""

from collections import deque
from dataclasses import dataclass, field

from framegrid_ingest.motion import Motion, MotionSettings

TRAIL_S = 3.0
TRAIL_STEP_S = 0.4

BoxTuple = tuple[float, float, float, float]
PathPoint = tuple[float, float, float, float]  # time_s, x, y, size


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Everything that can be turned in the tracker. Sizes are sqrt(box width * height); scores are 0..1."""

    motion: MotionSettings = field(default_factory=MotionSettings)
    # Above this time between samples (seconds) people move further than they stand apart: no tracking at all.
    max_interval_s: float = 2.0
    # Detections below the class's min_score and above this one may continue a track, never begin one.
    low_score: float = 0.1
    # Two boxes that cover each other this much are one object: within a model class / across model classes.
    same_class_iou: float = 0.65
    other_class_iou: float = 0.7
    # A box that lies this far inside a better one of its model class is a part of that object.
    part_inside: float = 0.85
    # Standard deviation of log width and log height between a track and its next detection.
    size_noise: float = 0.25
    # Twice the negative log-likelihood at which a detection is rather somebody else (chi-square, 4 degrees:
    # 18.5 is 1 in 1000; plus what the log-determinant of a track unseen for a second adds).
    match_limit: float = 22.0
    # Added to the cost of unconfirmed tracks: between equals the detection goes to the proven one.
    provisional_bias: float = 3.0
    # At the border a box changes along the border's normal as it is cut, not as the object moves: factor on
    # size_noise, and extra standard deviation of the position, in sizes, for that direction.
    border_size_factor: float = 3.0
    border_noise: float = 0.2
    # Weak detections must lie on the prediction: overlap asked for.
    weak_iou: float = 0.4
    # Overlap of a detection with where another is expected, from which its position is uncertain; factor on
    # the position's noise for each 1.0 of overlap beyond it.
    crowded_iou: float = 0.1
    crowded_noise: float = 6.0
    # What a track needs to be confirmed: seconds, and detections (at slow sampling as many as fit into the
    # seconds, and at least two).
    confirm_s: float = 0.4
    confirm_hits: int = 5
    least_confirm_hits: int = 2
    # A box that overlaps a surer object's this much, or lies this far inside it, may be a second box of the
    # same object (detectors draw them, of a part or with the shadow): as evidence for a new one it is worth
    # less.
    doubtful_iou: float = 0.35
    doubtful_inside: float = 0.8
    doubtful_weight: float = 0.25
    # Born in the middle of the picture upon somebody else's box, with nobody lost there: evidence needed, of
    # which doubtful boxes give none.
    upon_evidence: float = 8.0
    # An unconfirmed track must have been detected in this share of the frames since its birth.
    confirm_share: float = 0.6
    # An unconfirmed track is dropped when unseen this long (or two samples, if that is longer).
    provisional_unseen_s: float = 0.35
    # A confirmed track is associated frame by frame while unseen up to this long; later only re-linked.
    coast_s: float = 1.0
    # A lost track may be re-linked this long: a person behind a parked van, a car behind a bus at the lights.
    relink_s: float = 20.0
    # Distance, in sizes, at which a re-link is refused: base + slope * gap, seconds of gap capped.
    relink_base: float = 1.1
    relink_slope: float = 1.1
    relink_slope_cap_s: float = 3.0
    # A hidden walker may have gone this much further than at the speed he had.
    relink_faster: float = 1.3
    # What being elsewhere on the way than steady walking says adds to the cost: it decides between
    # candidates.
    relink_along: float = 0.2
    # Log of the size ratio at which a re-link is refused.
    relink_size: float = 0.4
    # Seconds after which one who was on his way out, when he was hidden, does not come back.
    relink_outside_s: float = 4.0
    # Added for one who comes back the other way; both speeds above the second number (sizes/s).
    relink_opposed: float = 0.9
    relink_moving: float = 0.3
    # Added to the cost of a doubtful box for a track that was out of sight: it is rather a second box of
    # another.
    doubtful_bias: float = 8.0
    # A birth this soon, this far inside the box of a track just lost, is what is still to be seen of that
    # object.
    remnant_s: float = 0.5
    remnant_share: float = 0.7
    # It is not if it has grown by more than this factor by its confirmation: then somebody comes in.
    remnant_growth: float = 1.2
    # A box this near to the picture's border touches it (a detector's box ends a pixel or two short of it).
    border: float = 0.015
    # Speed, in sizes per second towards the border, from which an object at the border is leaving.
    leaving_speed: float = 0.2
    # How much further in, in sizes, a track born at the border must have come to be on its way in.
    entering_gain: float = 0.1
    # Born at the border and not on its way in: the rest of somebody, unless it stays this long (seconds).
    rest_confirm_s: float = 1.0
    # Born in the middle of the picture, where nobody appears: needs this long (seconds) ...
    middle_confirm_s: float = 0.5
    # ... except in the camera's first seconds, when everybody is new.
    start_s: float = 1.0
    # Who was seen with less than this share of him left at the border, and then more by this share, is the
    # next.
    exit_share: float = 0.6
    turn_share: float = 0.4
    # Detections after which an exit that did not happen is forgotten.
    exit_forget_hits: int = 10
    # Younger tracks (seconds) are coming in, whatever their speed seems to be.
    settle_s: float = 0.7
    # A leaving track that is unseen is gone; only within this time may a remnant of it show up.
    leaving_unseen_s: float = 0.5
    # A box that shrank below this share of its track while one edge stayed is partly hidden, not smaller.
    hidden_share: float = 0.8
    # How far, as a share of the track's width or height, the edge that stayed may have moved.
    hidden_edge: float = 0.12
    # Seconds in which a hidden object's size follows what is seen of it.
    hidden_follow_s: float = 3.0


class Track:
    """One object as far as it was followed. Only the tracker writes to it."""

    __slots__ = (
        "class_scores",
        "confirmed",
        "evidence",
        "exit_at",
        "exit_depth",
        "exit_side",
        "exit_time_s",
        "first_box",
        "first_seen_s",
        "frames",
        "frames_unseen",
        "free_size",
        "hits",
        "last_box",
        "last_score",
        "last_seen_s",
        "leaving",
        "motion",
        "order",
        "parent",
        "path",
        "score_max",
        "seen_at",
        "seen_speed",
        "track_id",
        "trail",
        "unseen_s",
    )

    def __init__(self, order: int, motion: Motion, box: BoxTuple) -> None:
        self.order = order  # of birth; the first decides between equals
        self.track_id = ""  # given at confirmation
        self.motion = motion
        self.first_seen_s = self.last_seen_s = motion.time_s
        self.first_box = self.last_box = box
        self.frames = 1  # watched since birth
        self.frames_unseen = 0  # watched since the last detection, the present one included
        self.hits = 0
        self.evidence = 0.0  # of being an object of its own: hits, doubtful ones for less
        self.free_size: tuple[float, float] | None = None  # width and height when last not cut by the border
        self.exit_side, self.exit_depth, self.exit_at, self.exit_time_s = -1, 1.0, 0, 0.0  # see border.py
        self.leaving = False  # unseen, and last seen on its way out of the picture
        self.unseen_s = 0.0  # watched time since the last detection
        # Where, how large (x, y, size) and how fast (x, y per second) at the last detection.
        self.seen_at = (motion.x, motion.y, motion.scale)
        self.seen_speed = (0.0, 0.0)
        # Where it was (time_s, x, y), every TRAIL_STEP_S over the last TRAIL_S: the last speed before it is
        # hidden is the least certain one, the way it went for seconds says more.
        self.trail: deque[tuple[float, float, float]] = deque()
        self.score_max = self.last_score = 0.0
        self.class_scores: dict[str, float] = {}
        self.confirmed = False
        # The confirmed track upon whose box it was born, while it is not confirmed itself.
        self.parent: Track | None = None
        # Anchor points (time_s, x, y, size) that the counting of lines has not taken yet.
        self.path: list[PathPoint] = []

    def hit(self, score: float, class_name: str, box: BoxTuple) -> None:
        """Take note of a detection at the motion's time."""
        self.hits += 1
        self.unseen_s = 0.0
        self.frames_unseen = 0
        self.leaving = False
        self.last_seen_s = self.motion.time_s
        self.last_box = box
        self.last_score = score
        self.score_max = max(self.score_max, score)
        self.class_scores[class_name] = self.class_scores.get(class_name, 0.0) + score
        motion = self.motion
        self.seen_at = (motion.x, motion.y, motion.scale)
        self.seen_speed = (motion.vx, motion.vy)
        self.path.append((motion.time_s, *self.seen_at))
        if not self.trail or motion.time_s - self.trail[-1][0] >= TRAIL_STEP_S:
            self.trail.append((motion.time_s, motion.x, motion.y))
            while motion.time_s - self.trail[0][0] > TRAIL_S:
                self.trail.popleft()

    def cruise_speed(self) -> tuple[float, float]:
        """Mean speed over the last seconds it was seen, relative to the picture per second."""
        time_s, x, y = self.trail[0]
        span_s = self.last_seen_s - time_s
        if span_s < TRAIL_STEP_S:
            return self.seen_speed
        return (self.seen_at[0] - x) / span_s, (self.seen_at[1] - y) / span_s

    def absorb(self, younger: "Track") -> None:
        """Go on as `younger`, which turned out to be the same object."""
        self.motion = younger.motion
        self.hits += younger.hits
        self.unseen_s = younger.unseen_s
        self.leaving = younger.leaving
        self.last_seen_s = younger.last_seen_s
        self.trail = younger.trail
        self.seen_at, self.seen_speed = younger.seen_at, younger.seen_speed
        self.last_box = younger.last_box
        self.last_score = younger.last_score
        self.exit_side, self.free_size = younger.exit_side, younger.free_size
        self.score_max = max(self.score_max, younger.score_max)
        for name, score in younger.class_scores.items():
            self.class_scores[name] = self.class_scores.get(name, 0.0) + score
        self.path.extend(younger.path)

    def split(self, order: int, track_id: str) -> "Track":
        """End this track where it left the picture; returns the one that goes on, with what came after."""
        follower = Track(order, self.motion, self.last_box)
        follower.track_id, follower.confirmed = track_id, True
        follower.first_seen_s, follower.last_seen_s = self.exit_time_s, self.last_seen_s
        follower.hits = self.hits - self.exit_at
        follower.trail.append((follower.last_seen_s, self.motion.x, self.motion.y))
        follower.seen_at, follower.seen_speed = self.seen_at, self.seen_speed
        follower.score_max = follower.last_score = self.last_score
        follower.class_scores = {self.model_class: self.last_score * follower.hits}
        follower.path, self.path = self.path, []
        self.hits, self.last_seen_s = self.exit_at, self.exit_time_s
        return follower

    @property
    def model_class(self) -> str:
        """The model's class with the greatest sum of scores; the name decides between equals."""
        return max(self.class_scores.items(), key=lambda item: (item[1], item[0]))[0]
