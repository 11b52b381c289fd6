"""Stage 3: frames and a checkpoint in, masks and counts out, exactly once."""
