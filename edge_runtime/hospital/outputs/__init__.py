"""How are a series' masks written for a PACS and for researchers, in a process of its own since sources are hostile?"""
