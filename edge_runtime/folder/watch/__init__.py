"""How does a service segment what is dropped into a folder?"""
