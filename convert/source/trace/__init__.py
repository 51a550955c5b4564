"""Which graph, input scaling and outputs does a loaded model have?"""
