"""How does a public data set become a data folder?"""
