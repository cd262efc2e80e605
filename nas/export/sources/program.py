"""What every model.py has, whatever its network."""

LINE_LENGTH = 100
# The images of the manifest, and what the program does when it is run as a script.
AS_SCRIPT = '''\
def make_images(seed: int, shape: list[int]) -> Tensor:
    """The random images that manifest.json speaks of: Python's own generator gives the same anywhere."""
    generator = random.Random(seed)
    return torch.tensor([2 * generator.random() - 1 for _ in range(math.prod(shape))]).reshape(shape)


if __name__ == "__main__":
    network = build_network().eval()
    print(f"{sum(weights.numel() for weights in network.parameters()):,} parameters")
    probe = {"seed": 0, "shape": [2, *IMAGE]}
    if MANIFEST.exists():
        probe = json.loads(MANIFEST.read_text(encoding="utf-8"))["manifest"]["probe"]
    with torch.inference_mode():
        logits = network(make_images(probe["seed"], probe["shape"]))
    print(f"images {tuple(probe['shape'])} -> logits {tuple(logits.shape)}")
'''
