"""Clip sessions: mark objects in any frame, ask for any frame's masks.

session.py           the session: references in, masks out
prompting.py         what the references of a frame say about one object
following.py         from an object's references to its mask in any frame
embedding_ahead.py   each frame embedded once
store.py             embeddings and masks within a memory budget
"""

from pixelkin.video.following import FollowSettings
from pixelkin.video.session import ClipSession

__all__ = ["ClipSession", "FollowSettings"]
