"""The networks and what is needed to run one. Plain torch: importable without Ray."""
