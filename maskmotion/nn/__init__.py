"""Blocks with no opinion about motion. Axis 1 is time everywhere; convolutions transpose inside themselves."""
