"""What docs/security.md says, shown: hostile registries, archives and neighbours get nothing that is not theirs."""
