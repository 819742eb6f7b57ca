"""Networks: backbones, embedding heads, mask decoders."""
