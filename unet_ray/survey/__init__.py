"""The survey of masks: what the masks of an input hold, what is wrong with them, and which labels would fit."""
