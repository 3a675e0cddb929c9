"""Other servers, each in an environment of its own, on the same weights, pictures and cores."""
