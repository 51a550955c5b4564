"""Which services of the operating system does the code use: files, processes, terminal, facts on the machine?"""
