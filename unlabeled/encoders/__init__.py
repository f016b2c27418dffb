"""Encoders: one builder a modality, over timm, torchvision, transformers and PyG."""
