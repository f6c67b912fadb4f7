"""Sampling: one window -> a clip of any length."""
