"""What is a conversion's user told?"""
