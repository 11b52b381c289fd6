"""Class maps: names, colours, and the way from the numbers in a mask file to class ids."""
