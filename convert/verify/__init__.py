"""Does the converted file give the masks that the source model gives?"""
