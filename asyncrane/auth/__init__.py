"""Who we are at a registry: credential files, credential helpers, the environment. Nothing here speaks HTTP."""
