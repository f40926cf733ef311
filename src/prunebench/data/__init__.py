"""Data sets, one file each, and the preprocessing of images.

`dataset` converts a source to one file of tensors and loads that file onto a device; `augment` and
`normalization` process whole batches there. `boxes` does so for images with boxes. Descriptions and
names import no torch.
"""
