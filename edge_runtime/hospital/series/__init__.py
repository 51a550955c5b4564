"""Which headers make one series, in which order do its slices lie, and was the model made for it?"""
