"""The text of model.py: a template's network as a program that needs only PyTorch."""
