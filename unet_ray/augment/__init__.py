"""Augmentation: what training changes at random in a pair, as a pure function of the pair and a key.

`pair.augment_pair` is the whole of it, in order: a place for the crop (`balance`), one map from crop to source
(`geometry`) applied once (`warp`), the faults of a camera (`degrade`), hidden rectangles (`cutout`), and a colour map
(`colour`) that travels with the crop and is applied on the device. Evaluation has no path to any of this.
"""
