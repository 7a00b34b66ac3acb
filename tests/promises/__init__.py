"""What users were promised, end to end: the library and the program between two registries that log every request."""
