"""Which slices, masks and patients are in a data folder, and how are slices drawn?"""
