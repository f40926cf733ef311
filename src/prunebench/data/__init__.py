"""The data sets, one file each, and what happens to an image on its way into a network.

`stage` turns a source into one file of tensors and loads that file onto a device; `augment` and
`normalization` work there on whole batches. Descriptions and names import no torch.
"""
