"""The evidence: what a study's database says, as tables and numbers. Computes, never draws; needs no Keras."""
