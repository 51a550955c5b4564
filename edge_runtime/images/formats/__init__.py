"""Which image files are read, and is one complete by its own structure, before it is decoded?"""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
