"""Trackers that are shown every training: TensorBoard, MLflow, Weights & Biases, Trackio, a plug-in's."""
