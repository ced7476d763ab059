"""Detectors, segmenters and the client of chat models, which are all that this room knows of other people's models.

| what | where |
|---|---|
| what an adapter has to offer | `protocols.py` |
| specs, and the model of a spec, kept in memory | `registry.py`, `cache.py` |
| an adapter of a detector | `groundingdino.py`, `groundingdino_transformers.py`, `sam3_text.py` |
| an adapter of a prompted segmenter | `sam.py` (with `sam_*.py`), `sam_transformers.py` |
| what adapters share | `batches.py`, `checkpoint.py`, `detections.py`, `devices.py`, `grounding.py` |
| a published checkpoint in another format | `convert.py` |
| a chat completion over HTTP | `chat_http.py`, `chat_settings.py` |
"""
