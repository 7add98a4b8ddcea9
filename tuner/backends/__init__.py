"""TensorFlow and JAX under Keras: the only folder that imports either."""
