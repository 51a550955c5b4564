"""What do the headers of a hospital's files say, read in a child process since files are hostile?"""
