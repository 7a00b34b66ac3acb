"""Editing images: functions from image to image that do no I/O. What comes out is an overlay, a source of the few new
bytes (manifests, configs, layers) which the engine copies; everything else stays where it is.
"""
