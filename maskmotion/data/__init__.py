"""Recordings in: audio, transcripts, BEAT2 trees, windows, cached features."""
