"""What is written into the contract of a converted file?"""
