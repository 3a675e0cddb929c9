"""The HTTP API and the page for people, beside the wire route: pictures in, boxes out."""
