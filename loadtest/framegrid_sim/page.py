"""The server's front page: every camera's picture, refreshed by the browser."""

from __future__ import annotations

from html import escape

MAX_SHOWN = 48  # more pictures than this keep a browser busy for nothing

# Pictures are polled, one after the other, and not streamed: a browser opens six connections to a server, so
# the seventh stream would stay blank.
_SCRIPT = """
for (const img of document.images) {
  const again = () => setTimeout(() => { img.src = img.dataset.src + "?t=" + Date.now(); }, 200);
  img.onload = again;
  img.onerror = () => setTimeout(again, 800);
  again();
}
"""
_STYLE = """
:root { color-scheme: dark; font: 15px system-ui, sans-serif; background: #14171c; color: #e6e9ee; }
body { margin: 2rem; } h1 { font-size: 1.3rem; font-weight: 600; }
a { color: #8ab8ff; text-decoration: none; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 1rem; }
figure { margin: 0; background: #1e232b; border-radius: 10px; overflow: hidden; }
img { display: block; width: 100%; aspect-ratio: 16/9; background: #000; object-fit: contain; }
figcaption { padding: .5rem .8rem; display: flex; gap: 1rem; } figcaption b { flex: 1; font-weight: 500; }
"""


def index_page(names: list[str]) -> bytes:
    """UTF-8 HTML, complete in itself."""
    shown = names[:MAX_SHOWN]
    more = f" (the first {MAX_SHOWN} shown)" if len(names) > MAX_SHOWN else ""
    figures = "".join(_figure(escape(name)) for name in shown)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Simulated cameras</title>'
        f"<style>{_STYLE}</style><h1>{len(names)} simulated cameras{more}</h1><main>{figures}</main>"
        f"<script>{_SCRIPT}</script></html>"
    )
    return page.encode()


def _figure(name: str) -> str:
    base = f"cameras/{name}"
    return (
        f'<figure><img alt="{name}" data-src="{base}/frame.jpg">'
        f'<figcaption><b>{name}</b><a href="{base}/stream.mjpg">live</a><a href="{base}/truth">truth</a>'
        f"</figcaption></figure>"
    )
