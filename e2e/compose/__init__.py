"""``packaging/compose`` in real containers: the image built, the composition started, used, broken and stopped."""
