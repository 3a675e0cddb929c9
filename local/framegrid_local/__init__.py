"""Local: everything on one machine, and the `framegrid` command."""
