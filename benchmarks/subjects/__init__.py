"""What is measured: which models, engines, other runtimes and images?"""
