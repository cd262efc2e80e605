"""One network measured as the training loop measures a cohort."""

from torch import Tensor, nn

from nas.training.evaluation import predict, score, take_statistics


def refresh_statistics(network: nn.Module, images: Tensor) -> None:
    """Batch statistics over images (n, channels, height, width)."""
    take_statistics(network, lambda batch: network(batch[0])[None], [images])


def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy."""
    return score(predict(network, lambda batch: network(batch[0])[None], [images])[0], labels)
