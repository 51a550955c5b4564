"""Which series do a hospital's files hold (DICOM, NIfTI), and which of them was a model made for?"""
