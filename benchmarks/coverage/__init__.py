"""Which models of torchvision, timm and transformers convert, how openly, how fast, and whether they agree with torch."""
