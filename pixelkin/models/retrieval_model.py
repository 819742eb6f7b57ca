"""The model that a checkpoint holds: embedding network and mask decoder."""

from torch import nn

from pixelkin.models.mask_decoder import MaskDecoder
from pixelkin.models.pixel_embedding import PixelEmbeddingNet, small_network


class RetrievalModel(nn.Module):
    """An embedding network, and the decoder that reads masks from retrieval evidence.

    Args:
        embedding: run once per frame.
        decoder: run per object and question; cheap.
    """

    def __init__(self, embedding: PixelEmbeddingNet, decoder: MaskDecoder) -> None:
        super().__init__()
        self.embedding = embedding
        self.decoder = decoder


def small_model() -> RetrievalModel:
    """The architecture of the model that pixelkin ships."""
    return RetrievalModel(small_network(), MaskDecoder())
