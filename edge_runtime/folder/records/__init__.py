"""What does a run record about its images and itself?"""
