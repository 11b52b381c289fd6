"""Pixels: files from outside are decoded under a policy, our own are encoded without loss, both are resized alike."""
