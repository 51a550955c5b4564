"""How does a slice of a series become the image that a model sees, and its mask one of the source's pixels?"""
