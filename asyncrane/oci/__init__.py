"""The nouns of the OCI specifications: pure values that parse, print and compare. Nothing here does I/O."""
