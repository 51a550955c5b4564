"""Does a converted file segment images as the source model does?"""
