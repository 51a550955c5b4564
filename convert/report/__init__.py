"""What does a conversion report, and where is that written?"""
