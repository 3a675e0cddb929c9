"""Why a request of a person is not answered with boxes: a status, a sentence, and when to come back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import JSONResponse, Response

from framegrid_serve.errors import OverloadError, UnknownModelError


class RefusedError(Exception):
    """Carries an HTTP status of 4xx, or 503. The text says what was expected, and what to do."""

    def __init__(self, status: int, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s

    def response(self) -> Response:
        """`{"error": text}`, as everywhere in serve."""
        body: dict[str, object] = {"error": self.text}
        headers = {}
        if self.retry_after_s is not None:
            # RFC 9110 wants whole seconds; the exact figure is in the body.
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
            body["retry_after_s"] = round(self.retry_after_s, 3)
        return JSONResponse(body, self.status, headers)


@contextmanager
def as_refusals() -> Iterator[None]:
    """What serve's core raises for a request, as RefusedError."""
    try:
        yield
    except UnknownModelError as error:
        raise RefusedError(404, str(error)) from error
    except OverloadError as error:
        raise RefusedError(429, str(error), error.retry_after_s) from error
