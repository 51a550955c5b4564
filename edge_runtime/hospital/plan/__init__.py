"""Which series does a run take, under which names, and what is each of their slices?"""
