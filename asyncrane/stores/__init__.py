"""Where images are kept: each module is a Source, a Sink or both."""
