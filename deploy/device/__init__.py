"""How is a kit installed on a device, run there, and rolled back?"""
