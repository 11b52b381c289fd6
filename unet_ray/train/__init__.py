"""Stage 2: a prepared dataset in, checkpoints and a history out."""
