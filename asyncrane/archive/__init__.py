"""What is inside blobs: hashes and, later, compressed and archived files."""
