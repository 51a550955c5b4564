"""What is the Keras model, and what are its outputs? Runs in a child process that imports TensorFlow."""
