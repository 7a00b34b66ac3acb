"""The command line: words in, results on stdout, everything else on stderr. It uses the public API and nothing else."""
