"""ResNet-50: its blocks and cuts, its weights, and the features its frozen part gives."""
