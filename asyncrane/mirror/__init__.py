"""Fleets of images: from one file to a plan, a run, and the proof that it is complete."""
