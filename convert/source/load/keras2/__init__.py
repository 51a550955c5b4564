"""What does Keras 3 need to read a model file of Keras 2, and compute the same?"""
