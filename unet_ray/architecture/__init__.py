"""``unet-ray model``: the network of a configuration as a table and a drawing. Needs no Ray."""
