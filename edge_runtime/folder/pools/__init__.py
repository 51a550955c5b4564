"""In which threads or processes are the images of a run segmented?"""
