"""tlstudy: an honest hyperparameter study of a pretrained ResNet-50 on your own photographs."""

__version__ = "0.1.0"
