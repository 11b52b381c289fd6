"""``unet-ray augment``: a contact sheet of what training sees, for a person to check."""
