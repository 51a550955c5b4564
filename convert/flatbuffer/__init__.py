"""How is a TFLite flatbuffer read, run and edited?"""
