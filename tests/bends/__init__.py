"""Bends one place of what a command reads, and looks at what becomes of it and of all the rest: `make bends`."""
