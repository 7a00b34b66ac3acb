"""The benchmarks: asyncrane and its peers copy the same images between two real registries, in turn, in one run.

``python -m benchmarks --help`` lists what can be chosen. Each scenario is built once in a source registry; every run
copies it into an emptied destination, is timed from outside, and is verified before its time counts.
"""
