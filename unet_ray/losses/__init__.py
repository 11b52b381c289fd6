"""What training minimises, and the pixels' weights in it. Importable without Ray.

All terms share one rule for pixels without a label (255): they have neither value nor gradient, and a batch of nothing
else gives 0. Nothing here waits for the device.
"""
