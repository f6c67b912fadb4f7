"""Geometry and file formats, at the edge of the library."""
