"""Is this machine, this model file, this engine fit to segment with?"""
