"""The distribution API as a client speaks it: manifests, blobs, uploads, lists and referrers of one repository.

Functions take an :class:`~asyncrane.transport.origin.Origin` and a repository's path. What is learned about a registry
on the way (which kind of upload it takes, which mounts it refused) is kept in ``origin.capabilities``.
"""
